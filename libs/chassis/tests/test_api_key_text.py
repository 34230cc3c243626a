"""How an API key looks, and that one which was mistyped does not."""

import re
import string
import zlib

from chassis.identity.api_key_text import new_key_text, read_key_text


def test_a_key_is_random_and_as_it_is_documented() -> None:
    keys = [new_key_text() for _ in range(50)]
    assert len({key.text for key in keys}) == len({key.public_id for key in keys}) == 50
    for key in keys:
        assert re.fullmatch(r"tw_[0-9A-Za-z]{12}_[0-9A-Za-z]{49}", key.text)
        assert key.text.startswith(f"{key.prefix}_")
        assert key.text.endswith(key.last_characters)
        assert read_key_text(key.text) == key
        assert key.text not in repr(key)
    used = set("".join(key.text.split("_")[2] for key in keys))
    assert used == set(string.ascii_letters + string.digits)


def test_the_checksum_is_the_crc_32_of_all_before_it_in_base_62() -> None:
    """Written out once more, as a secret scanner would."""
    alphabet = string.digits + string.ascii_uppercase + string.ascii_lowercase
    text = new_key_text().text
    value = 0
    for digit in text[-6:]:
        value = value * 62 + alphabet.index(digit)
    assert value == zlib.crc32(text[:-6].encode())


def test_every_single_mistake_is_noticed_without_asking_anybody() -> None:
    text = new_key_text().text
    for place, right in enumerate(text):
        for wrong in {"0", "a", "Z", "_"} - {right}:
            assert read_key_text(text[:place] + wrong + text[place + 1 :]) is None, place
        assert read_key_text(text[:place] + text[place + 1 :]) is None
    for other in (
        "",
        "tw_",
        text + "0",
        text + "\n",
        " " + text,
        text.upper(),
        "\u0664" * 65,
        text.replace("tw_", "ghp_"),
    ):
        assert read_key_text(other) is None, other
