import pytest

from ctnet.engine.values import read_value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("010", 10),
        ("-3", -3),
        ("1e-4", 1e-4),
        ("1.0e+4", 1e4),
        (".5", 0.5),
        ("0x10", "0x10"),
        ("1_000", "1_000"),
        ("1:30", "1:30"),
        ("2024-01-01", "2024-01-01"),
        ("no", "no"),
        ("true", True),
        ("null", None),
        ("", ""),
        ("[256, 0320]", [256, 320]),
        ("{blocks: 4, rule: {odd: [1]}}", {"blocks": 4, "rule": {"odd": [1]}}),
    ],
)
def test_numbers_are_decimal_and_the_rest_is_text(text, value):
    found = read_value(text)
    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize("text", ["[1", "{a: 1", "*a", "!!python/name:os.system", "[" * 9999, "1" * 9999, "{[1]: 2}"])
def test_what_is_no_value_is_refused_in_one_line(text):
    with pytest.raises(ValueError, match=".") as refused:
        read_value(text)
    assert "\n" not in str(refused.value)
