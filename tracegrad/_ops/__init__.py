"""Operations by family, each declared once."""
