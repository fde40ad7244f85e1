"""What the commands are called: the words of digits and letters by language, as one says them.

Lives here: the vocabulary that recordings are labelled with and that synthesised voices speak. Not here: file names of
recordings (`data/asterisk.py`), which are in the packages' own terms.

The Russian prompts say Latin letters by their English names (a Russian voice reading `a, b, c`), so they are recordings
of English letters; Russian letters would be Cyrillic, of which no free prompt set has two voices.
"""

from collections.abc import Iterator, Mapping

DIGITS: Mapping[str, tuple[str, ...]] = {
    "en": ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"),
    "es": ("cero", "uno", "dos", "tres", "cuatro", "cinco", "seis", "siete", "ocho", "nueve"),
    "fr": ("zéro", "un", "deux", "trois", "quatre", "cinq", "six", "sept", "huit", "neuf"),
    "it": ("zero", "uno", "due", "tre", "quattro", "cinque", "sei", "sette", "otto", "nove"),
    "ru": ("ноль", "один", "два", "три", "четыре", "пять", "шесть", "семь", "восемь", "девять"),
}
LATIN = "abcdefghijklmnopqrstuvwxyz"
# Languages whose letters are known.
LETTER_LANGUAGES = ("en", "es", "fr", "it")
# Names of letters where a synthesiser reads the bare letter otherwise than the prompts do.
_NAMES: Mapping[tuple[str, str], str] = {
    ("es", "v"): "ve",
    ("es", "w"): "doble ve",
    ("es", "y"): "i griega",
    ("fr", "e"): "euh",
    ("it", "v"): "vi",
    ("it", "j"): "i lunga",
    ("it", "w"): "doppia vu",
    ("it", "y"): "ipsilon",
}

# Anything that is no command: other words, music, noise.
UNKNOWN = "unknown"


def label_of(language: str, command: str) -> str:
    """Name a command in a language, e.g. `en:seven`'s label is `en:7`."""
    return f"{language}:{command}"


def labels() -> list[str]:
    """Every label of the commands' model, in the order of its outputs."""
    digits = [label_of(language, str(digit)) for language in DIGITS for digit in range(10)]
    letters = [label_of(language, letter) for language in LETTER_LANGUAGES for letter in LATIN]
    return [*digits, *letters, UNKNOWN]


def spoken(language: str, command: str) -> str:
    """Write a command as it is read out, e.g. `("it", "7")` is `sette`."""
    if command.isdigit():
        return DIGITS[language][int(command)]
    return _NAMES.get((language, command), command.upper())


def commands() -> Iterator[tuple[str, str]]:
    """Yield every (language, command) but the unknown, in the order of `labels`."""
    for label in labels()[:-1]:
        language, _, command = label.partition(":")
        yield language, command
