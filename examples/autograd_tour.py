"""A tour of gradients: accumulation, switching off, intermediates, second derivatives, complex numbers.

Run it with ``python examples/autograd_tour.py``. Every claim is checked as it is printed.
"""

from __future__ import annotations

import numpy as np

import tracegrad as torch


def check(what: str, got: torch.Tensor, expected: object) -> None:
    """Print a result, and stop where it is not what theory says."""
    print(f"{what:<58} {got.tolist()}")
    assert np.allclose(got.numpy(), expected, rtol=1e-4), expected


def first_steps() -> None:
    print("-- A gradient, and how gradients add up")
    x = torch.tensor([1.0, 2.0, 3.0], requires_grad=True)
    loss = (x**2).sum()
    print(f"the loss remembers how it was made: {loss}")
    loss.backward()
    check("the gradient of sum(x ** 2) is 2 x", x.grad, [2.0, 4.0, 6.0])
    (3 * x).sum().backward()
    check("a second backward adds its 3 to what was there", x.grad, [5.0, 7.0, 9.0])
    x.grad = None
    y = x * 2
    y.backward(torch.tensor([1.0, 0.1, 0.01]))
    check("a vector is differentiated along a direction", x.grad, [2.0, 0.2, 0.02])


def not_tracking() -> None:
    print("\n-- What gradients do not flow through")
    x = torch.tensor([1.0, 2.0], requires_grad=True)
    with torch.no_grad():
        print(f"{'made under no_grad(), it wants no gradient':<58} {(x * 2).requires_grad}")
    (x * x.detach()).sum().backward()
    check("detach() makes one factor a constant", x.grad, [1.0, 2.0])
    with torch.no_grad():
        x -= 0.5 * x.grad  # a step of gradient descent by hand
    check("a parameter may be written to under no_grad()", x.detach(), [0.5, 1.0])


def intermediates() -> None:
    print("\n-- Gradients in the middle")
    x = torch.tensor([0.5, 1.5], requires_grad=True)
    h = torch.exp(x)
    h.retain_grad()
    (h * h).sum().backward()
    check("retain_grad() keeps the gradient of h, which is 2 h", h.grad / h.detach(), [2.0, 2.0])
    a = torch.tensor(2.0, requires_grad=True)
    b = a**3
    (g,) = torch.autograd.grad(b * b, b)
    check("autograd.grad() asks for it without a .grad", g, 16.0)
    print(f"{'... and leaves a.grad alone':<58} {a.grad}")


def second_derivatives() -> None:
    print("\n-- Gradients of gradients")
    x = torch.tensor(2.0, requires_grad=True)
    first = torch.autograd.grad(x**4, x, create_graph=True)[0]
    second = torch.autograd.grad(first, x, create_graph=True)[0]
    third = torch.autograd.grad(second, x)[0]
    check("x ** 4 at 2: the first derivative", first.detach(), 32.0)
    check("... the second", second.detach(), 48.0)
    check("... the third", third, 48.0)

    # Newton's method finds where sin(x) + x / 2 is least, by the first and second derivative.
    x = torch.tensor(-1.0, dtype=torch.float64, requires_grad=True)
    turns = 0
    while True:
        slope = torch.autograd.grad(torch.sin(x) + x / 2, x, create_graph=True)[0]
        if slope.abs() < 1e-12:
            break
        curvature = torch.autograd.grad(slope, x)[0]
        with torch.no_grad():
            x -= slope / curvature
        turns += 1
    check(f"Newton's method after {turns} turns: cos(x) = -1/2", torch.cos(x).detach(), -0.5)


def many_losses() -> None:
    print("\n-- One graph, several losses")
    w = torch.tensor([1.0, -2.0], requires_grad=True)
    h = w.exp()
    h.sum().backward(retain_graph=True)
    h.prod().backward()
    e = [2.718281828, 0.135335283]
    check("both have arrived", w.grad, [e[0] + e[0] * e[1], e[1] + e[0] * e[1]])
    try:
        h.sum().backward()
    except RuntimeError as error:
        print(f"a third one comes too late: {str(error).split(' (')[0]}")
    else:
        raise AssertionError("the graph was freed, so this must not work")


def complex_numbers() -> None:
    print("\n-- Complex numbers, in PyTorch's convention")
    z = torch.tensor([1 + 2j, 3 - 1j], requires_grad=True)
    (z.abs() ** 2).sum().backward()
    check("|z| ** 2 grows fastest along 2 z", z.grad, [2 + 4j, 6 - 2j])


if __name__ == "__main__":
    first_steps()
    not_tracking()
    intermediates()
    second_derivatives()
    many_losses()
    complex_numbers()
