"""A reload with each broken file: the old configuration stays, and the place is said."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from receiver.app import Promheal
from receiver.web.flask_app import create_app
from tests.figures import Record
from tests.test_config_files import BROKEN, NAMES, SERVICES


def test_each_is_refused_at_its_place_and_the_old_one_stays(
    service: Promheal, config: Path, record_property: Record
) -> None:
    client = create_app(service).test_client()
    (config / NAMES[1]).write_text(SERVICES)
    assert client.post("/-/reload").status_code == 200
    before = service.config
    good = {name: (config / name).read_text() for name in NAMES}
    wrong = []
    for index, marked, message in BROKEN:
        name, (head, tail) = NAMES[index], marked.split("▸")
        (config / name).write_text(head + tail, encoding="utf-8")
        answer: Any = client.post("/-/reload")
        said = answer.json["error"]["message"] if answer.status_code == 400 else answer.text
        place = f"{name}:{head.count(chr(10)) + 1}:{len(head) - head.rfind(chr(10))}: "
        stays = "promheal_config_last_reload_successful 0.0" in client.get("/metrics").text
        if not (place in said and message in said and stays and service.config is before):
            wrong.append((marked, answer.status_code, said))
        (config / name).write_text(good[name], encoding="utf-8")
        assert client.post("/-/reload").status_code == 200
        before = service.config
    record_property("broken configurations", len(BROKEN))
    record_property("not refused as they should be", len(wrong))
    assert wrong == []
