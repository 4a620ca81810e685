import io
import json

from core import log


def test_lines_are_json_where_nobody_watches() -> None:
    out = io.StringIO()
    log.configure("INFO", stream=out)
    logger = log.get("serving")
    logger.debug("hidden")
    logger.info("model_serving", version="3")
    lines = [json.loads(line) for line in out.getvalue().splitlines()]
    assert [(line["event"], line["component"], line["version"]) for line in lines] == [
        ("model_serving", "serving", "3")
    ]
