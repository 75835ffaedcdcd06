"""The engine: record operations in a trie of traces, flush a trace as one compiled JAX program."""
