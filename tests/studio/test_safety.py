"""Who is answered, and what bad requests can do: nothing."""

import json
import socket

import pytest

pytest.importorskip("starlette", reason="no studio: pip install 'touchline[studio]'")
pytest.importorskip("uvicorn", reason="no studio: pip install 'touchline[studio]'")

READ = [
    "/", "/studio.js", "/studio.css", "/api/project", "/api/matches/m1/proposals",
    "/api/matches/m1/curves", "/api/matches/m1/waveform", "/api/matches/m1/picture?t=1",
    "/api/formats", "/media/m1", "/media/m2?file=own",
]  # fmt: skip
WRITE = [
    "/api/do", "/api/export", "/api/model", "/api/matches/m1/proxy", "/api/matches/m1/ask",
]  # fmt: skip


@pytest.fixture
def unchanged(studio):
    """Whatever a test asks for, the project stays as it was."""
    before = studio.project()
    yield
    after = studio.project()
    assert after["revision"] == before["revision"]
    assert after["classes"] == before["classes"]
    assert [m["marks"] for m in after["matches"]] == [m["marks"] for m in before["matches"]]


def refused(answer) -> None:
    assert answer.status == 403
    assert set(answer.json) == {"error"}
    check_headers(answer)


def check_headers(answer) -> None:
    policy = answer.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self';")
    for part in ("base-uri 'none'", "form-action 'none'", "frame-ancestors 'none'"):
        assert part in policy
    assert "unsafe" not in policy
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert answer.headers["cross-origin-resource-policy"] == "same-origin"


@pytest.mark.parametrize("path", READ)
def test_the_page_and_its_parts_are_answered_with_the_cookie(studio, path):
    answer = studio.ask(path)
    assert answer.status == 200
    check_headers(answer)


@pytest.mark.parametrize("path", [*READ, *WRITE, "/api/updates", "/nothing"])
def test_nobody_is_answered_without_the_cookie(studio, path, unchanged):
    more = {"method": "POST", "body": "{}"} if path in WRITE else {}
    refused(studio.ask(path, leave_out=("Cookie",), **more))
    name, _, token = studio.cookie.partition("=")
    for cookie in (
        f"{name}={token[:-1]}",
        f"{name}=",
        f"{name}=\xfc",
        f"other={token}",
        "x" * 9000,
    ):
        refused(studio.ask(path, Cookie=cookie, **more))


def test_the_first_address_gives_the_cookie_and_takes_the_token_out_of_sight(studio):
    answer = studio.ask(f"/?token={studio.token}", leave_out=("Cookie",), Sec_Fetch_Site="none")
    assert (answer.status, answer.headers["location"]) == (303, "/")
    assert answer.headers["set-cookie"].split("; ")[0] == studio.cookie
    assert {"HttpOnly", "SameSite=strict", "Path=/"} <= set(
        answer.headers["set-cookie"].split("; ")
    )
    check_headers(answer)


@pytest.mark.parametrize(
    "path", ["/?token=", "/?token=x", "/?token=%FC", "/?token={}x", "/?token=x&token=y"]
)
def test_a_wrong_token_opens_nothing(studio, path):
    answer = studio.ask(path.format(studio.token), leave_out=("Cookie",))
    refused(answer)
    assert "set-cookie" not in answer.headers


@pytest.mark.parametrize("path", ["/api/project", "/media/m1", "//", "/studio.js"])
def test_the_token_opens_the_first_address_only(studio, path):
    refused(studio.ask(f"{path}?token={studio.token}", leave_out=("Cookie",)))


def test_tokens_are_long_and_new_at_each_start(studio):
    assert len(studio.token) >= 43
    assert studio.token not in (studio.project_folder / "address.txt").read_text()
    for path in ("/", "/studio.js", "/api/project"):
        assert studio.token.encode() not in studio.ask(path).body


@pytest.mark.parametrize(
    "host",
    [
        "evil.example", "evil.example:{}", "127.0.0.1", "127.0.0.1:1", "127.0.0.2:{}", "[::1]:{}",
        "localhost.evil.example:{}", "", "127.0.0.1:{}@evil.example", "127.0.0.1:{} ,evil.example",
    ],
)  # fmt: skip
def test_other_host_names_are_refused(studio, host, unchanged):
    """A page of another name that resolves to 127.0.0.1 (DNS rebinding) has a cookie at best."""
    for path in ("/", f"/?token={studio.token}", "/api/project", "/media/m1"):
        answer = studio.ask(path, Host=host.format(studio.port))
        assert answer.status in (400, 403)
        assert b"matches" not in answer.body
    answer = studio.ask("/api/do", method="POST", body="{}", Host=host.format(studio.port))
    assert answer.status in (400, 403)


def test_localhost_is_a_name_of_this_machine(studio):
    assert studio.ask("/api/project", Host=f"localhost:{studio.port}").status == 200


@pytest.mark.parametrize(
    "origin",
    ["http://evil.example", "null", "http://127.0.0.1", "http://127.0.0.1:1", "", "http://[", "x"],
)
def test_other_origins_are_refused(studio, origin, unchanged):
    action = json.dumps({"do": "add_class", "name": "evil"})
    refused(studio.ask("/api/do", method="POST", body=action, Origin=origin))
    question = json.dumps({"question": "How many events?"})
    refused(studio.ask("/api/matches/m1/ask", method="POST", body=question, Origin=origin))
    refused(studio.ask("/api/project", Origin=origin))


@pytest.mark.parametrize("site", ["cross-site", "same-site", "x", ""])
def test_requests_that_another_page_made_are_refused(studio, site, unchanged):
    action = json.dumps({"do": "add_class", "name": "evil"})
    refused(studio.ask("/api/do", method="POST", body=action, Sec_Fetch_Site=site))
    for path in ("/", "/api/project", "/media/m1", f"/?token={studio.token}"):
        refused(studio.ask(path, Sec_Fetch_Site=site))


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", ""])
def test_a_form_of_another_page_cannot_act(studio, kind, unchanged):
    """Browsers send such bodies without asking first."""
    action = json.dumps({"do": "add_class", "name": "evil"})
    answer = studio.ask("/api/do", method="POST", body=action, Content_Type=kind)
    assert answer.status == 415
    check_headers(answer)


@pytest.mark.parametrize("path", WRITE)
@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "OPTIONS", "TRACE"])
def test_only_post_changes_anything(studio, path, method, unchanged):
    answer = studio.ask(path, method=method)
    assert answer.status == 405
    check_headers(answer)


@pytest.mark.parametrize("path", READ)
def test_reading_changes_nothing(studio, path, unchanged):
    for method in ("GET", "HEAD"):
        assert studio.ask(path, method=method).status == 200
    assert studio.ask(path, method="POST", body="{}").status == 405


@pytest.mark.parametrize(
    "path",
    [
        "/media/../../../../etc/passwd", "/media/%2e%2e/%2e%2e/etc/passwd", "/media//etc/passwd",
        "/media/..%2f..%2fetc%2fpasswd", "/media/%2fetc%2fpasswd", "/media/m1/../../etc/passwd",
        "/media/m1%00", "/media/m1/", "/media/m9", "/media/", "/media/M1", "/media/journal.jsonl",
        "/media/..%5c..%5cjournal.jsonl", "/api/matches/../../project", "/api/matches/m9/proposals",
        "/api/matches/%2e%2e/curves", "/api/matches/m1%2f..%2fm1/curves", "/page/studio.js",
        "/journal.jsonl", "/labels.csv", "/.lock", "/studio.css/..", "/%2e%2e/", "/api/",
        "/api/matches/m9/picture?t=1", "/api/matches/m9/waveform",
    ],
)  # fmt: skip
def test_tricks_with_paths_find_nothing(studio, path):
    answer = studio.ask(path)
    assert answer.status == 404
    assert b"root:" not in answer.body
    assert b"touchline-studio-1" not in answer.body
    check_headers(answer)


@pytest.mark.parametrize(
    "file", ["/etc/passwd", "../journal.jsonl", "copy%00", "", "own&file=copy"]
)
def test_only_the_footage_of_the_project_can_be_read(studio, matches, file):
    assert studio.ask(f"/media/m1?file={file}").body == matches[0].read_bytes()


@pytest.mark.parametrize("path", ["http://evil.example/api/project", "*", "x"])
def test_requests_for_other_places_are_refused(studio, path):
    assert studio.ask(path).status in (400, 403, 404)


BODIES = {
    "empty": b"", "no JSON": b"do: undo", "half": b'{"do": "undo"', "a list": b'["undo"]',
    "a text": b'"undo"', "a number": b"1", "null": b"null", "no UTF-8": b'{"do": "\xff\xfe"}',
    "two": b'{"do": "undo"} {"do": "undo"}', "deep list": b"[" * 200_000,
    "deep object": b'{"a":' * 150_000,
    "deep value": b'{"do": "undo", "x": ' + b"[" * 50_000 + b"]" * 50_000 + b"}",
}  # fmt: skip


@pytest.mark.parametrize("path", WRITE)
@pytest.mark.parametrize("name", BODIES)
def test_bad_bodies_are_refused(studio, name, path, unchanged):
    answer = studio.ask(path, method="POST", body=BODIES[name])
    assert answer.status == 400
    assert set(answer.json) == {"error"}
    check_headers(answer)


def test_a_large_body_is_refused_whether_or_not_it_says_so(studio, unchanged):
    body = b'{"do": "add_class", "name": "' + b"x" * (1 << 21) + b'"}'
    assert studio.ask("/api/do", method="POST", body=body).status == 413
    chunks = b"100000\r\n" + b"x" * 0x100000 + b"\r\n"
    answer = studio.ask(
        "/api/do", method="POST", body=2 * chunks + b"0\r\n\r\n", Transfer_Encoding="chunked"
    )
    assert answer.status == 413


MARK = {"do": "mark", "match": "m1", "class": "a1", "start": 1, "end": 2}
ACTIONS = {
    "unknown": {"do": "format"}, "none": {}, "a list": {"do": ["undo"]}, "nothing": {"do": None},
    "other match": MARK | {"match": "m9"}, "match a list": MARK | {"match": ["m1"]},
    "match an object": MARK | {"match": {}}, "no class": MARK, "class a list": MARK | {"class": []},
    "edit a list": {"do": "edit_mark", "mark": ["m1"]}, "no name": {"do": "add_class", "name": 7},
    "remove an object": {"do": "remove_rejection", "rejection": {}},
}  # fmt: skip
RAW = {
    "nested": '{"do": "add_class", "name": "x", "more": ' + 900 * "[" + 900 * "]" + "}",
    "NaN": '{"do": "add_class", "name": "x", "colour": NaN}',
    "NaN beside": '{"do": "add_class", "name": "x", "more": NaN}',
    "infinite": '{"do": "add_class", "name": "x", "more": [1e999]}',
    "huge": '{"do": "add_class", "name": "x", "colour": ' + "9" * 4000 + "}",
    "more than huge": '{"do": "add_class", "name": "x", "colour": ' + "9" * 9000 + "}",
}


@pytest.mark.parametrize("name", [*ACTIONS, *RAW])
def test_actions_that_make_no_sense_are_refused_in_one_sentence(studio, name, unchanged):
    body = RAW[name] if name in RAW else json.dumps(ACTIONS[name])
    answer = studio.ask("/api/do", method="POST", body=body)
    assert answer.status == 400
    assert answer.json["error"]
    assert "Traceback" not in answer.json["error"]


@pytest.mark.parametrize("formats", [None, "csv", [7], {"csv": 1}, ["pdf"], ["../x"], []])
def test_exports_that_make_no_sense_are_refused(studio, formats, unchanged):
    answer = studio.post("/api/export", {"formats": formats})
    assert answer.status == 400
    assert answer.json["error"]


@pytest.mark.parametrize("query", ["", "?t=", "?t=x", "?t=nan", "?t=inf", "?t=-1", "?t=1e99"])
def test_pictures_need_a_time(studio, query):
    assert studio.ask(f"/api/matches/m1/picture{query}").status == 400
    width = "?t=1&w=" + query.removeprefix("?t=")
    assert studio.ask(f"/api/matches/m1/picture{width}").status == 400


def test_only_this_machine_can_reach_it(studio):
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.2", studio.port), timeout=5)


def test_names_from_people_are_data_for_the_page_and_never_html(studio):
    name = "<script>alert(1)</script> \u2028 </title>"
    made = studio.do(do="add_class", name=name)
    assert name.replace("\u2028 ", "").encode() not in studio.ask("/").body
    answer = studio.ask("/api/project")
    assert answer.headers["content-type"] == "application/json"
    assert answer.json["classes"][0]["name"] == "<script>alert(1)</script> </title>"
    studio.do(do="remove_class", **{"class": made})


def test_half_a_character_in_a_note_does_not_break_the_project(studio):
    made = studio.do(do="add_class", name="dunk \ud800")
    mark = studio.do(**(MARK | {"class": made, "note": "half \udc80 \x1b[31m"}))
    project = studio.project()
    assert project["classes"][0]["name"] == "dunk"
    assert project["matches"][0]["marks"][0]["id"] == mark
    assert project["matches"][0]["marks"][0]["note"].startswith("half ")
    studio.do(do="remove_class", **{"class": made})
