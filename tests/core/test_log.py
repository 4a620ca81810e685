import io
import json
import logging
from collections.abc import Iterator

import pytest

from core import log


@pytest.fixture
def out() -> Iterator[io.StringIO]:
    root = logging.getLogger()
    before = list(root.handlers)
    stream = io.StringIO()
    log.configure("INFO", stream=stream)
    yield stream
    root.handlers[:] = before


def test_lines_are_json_where_nobody_watches(out: io.StringIO) -> None:
    logger = log.get("serving")
    logger.debug("hidden")
    logger.info("model_serving", version="3")
    lines = [json.loads(line) for line in out.getvalue().splitlines()]
    assert [(line["event"], line["component"], line["version"]) for line in lines] == [
        ("model_serving", "serving", "3")
    ]


def test_what_libraries_say_comes_in_the_same_form(out: io.StringIO) -> None:
    logging.getLogger("a.server").error("%d of %s", 3, "five")
    logging.getLogger("third.party").warning("%(event)s", {"event": "x"})
    logging.getLogger("third.party").info("hidden")
    try:
        raise ValueError("no such thing")
    except ValueError:
        logging.getLogger("another.party").exception("task failed")
    lines = [json.loads(line) for line in out.getvalue().splitlines()]
    assert [(line["component"], line["event"], line["level"]) for line in lines] == [
        ("a.server", "3 of five", "error"),
        ("third.party", "x", "warning"),
        ("another.party", "task failed", "error"),
    ]
    assert "no such thing" in lines[-1]["exception"]


@pytest.mark.parametrize(
    ("message", "args"), [("x %d", ("a",)), ("fault", ({"event": "x"},)), ("%(no)s", ({"event": "x"},))]
)
def test_a_record_that_fits_no_line_does_not_fail_who_logs(
    out: io.StringIO, message: str, args: tuple[object], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging, "raiseExceptions", False)
    logging.getLogger("third.party").warning(message, *args)
    logging.getLogger("third.party").warning("next")
    assert json.loads(out.getvalue().splitlines()[-1])["event"] == "next"


def test_a_mapping_is_the_fields_of_a_plain_message(out: io.StringIO) -> None:
    logging.getLogger("features").warning("features_compiling", {"operators": 9, "done": 2})
    (line,) = map(json.loads, out.getvalue().splitlines())
    assert (line["event"], line["operators"], line["done"]) == ("features_compiling", 9, 2)
