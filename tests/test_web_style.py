"""Guards that the page can be read: contrast as WCAG 2.2 AA asks for it, computed from its style sheet."""

import re
from importlib import resources

import pytest

CSS = resources.files("services.web").joinpath("static", "page.css").read_text()
LIGHT, DARK = (dict(re.findall(r"--(\w+): #(\w{6})", part)) for part in CSS.split("prefers-color-scheme")[:2])
TARGET = 0.01 * int(re.search(r":target .*--bar\) (\d+)%", CSS)[1])  # type: ignore[index]

Colour = tuple[float, ...]


def colour(digits: str) -> Colour:
    """Red, green and blue, from 0 to 1."""
    return tuple(byte / 255 for byte in bytes.fromhex(digits))


def luminance(of: Colour) -> float:
    """Relative luminance, as WCAG 2.2 defines it."""
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in of]
    return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def contrast(one: Colour, other: Colour) -> float:
    """From 1 to 21."""
    lower, higher = sorted((luminance(one), luminance(other)))
    return (higher + 0.05) / (lower + 0.05)


@pytest.mark.parametrize("colours", [LIGHT, DARK], ids=["light", "dark"])
def test_text_and_fields_stand_out(colours: dict[str, str]) -> None:
    """A link on a panel had 4.3:1, on the row that was jumped to 3.7:1, the edge of a field 1.3:1."""
    named = {name: colour(digits) for name, digits in colours.items()}
    paper, panel, bar = named["paper"], named["panel"], named["bar"]
    target = tuple(TARGET * over + (1 - TARGET) * under for over, under in zip(bar, paper, strict=True))
    for name in ("ink", "soft", "accent", "good", "warn", "bad"):
        assert min(contrast(named[name], ground) for ground in (paper, panel, target)) >= 4.5, name
    assert min(contrast(named["edge"], ground) for ground in (paper, panel)) >= 3


def test_a_link_in_a_sentence_is_underlined() -> None:
    """It was told from the words around it by its colour alone."""
    assert re.search(r"\bp a, li a \{ text-decoration: underline; \}", CSS)
