"""One small file of every label format, and how to put it on disk."""

from __future__ import annotations

from pathlib import Path

CSV = """video,label,start_s,end_s,group
match.mp4,goal,2.0,6.0,match_A
match.mp4,card,10.0,10.4,match_A
"""

SOCCERNET = """{"UrlLocal": "league/2015/A 1 - 0 B/", "annotations": [
  {"gameTime": "1 - 00:02", "label": "Goal", "position": "2500", "team": "home",
   "visibility": "visible"},
  {"gameTime": "2 - 01:30", "label": "Foul", "position": "90010", "visibility": "not shown"}]}
"""

ACTIVITYNET = """{"version": "1.3", "database": {"match": {"subset": "training", "duration": 60,
  "annotations": [{"segment": [2.0, 6.0], "label": "goal"},
                  {"segment": [10.0, 10.4], "label": "card"}]}}}
"""

LABEL_STUDIO = """[{"id": 7, "data": {"video": "/data/upload/3/0a1b2c3d-match.mp4", "fps": 25},
  "annotations": [{"was_cancelled": false, "result": [
    {"type": "timelinelabels", "value": {"ranges": [{"start": 51, "end": 150}],
                                         "timelinelabels": ["goal"]}},
    {"type": "choices", "value": {"choices": ["sunny"]}},
    {"type": "timelinelabels", "value": {"ranges": [{"start": 251, "end": 260}],
                                         "timelinelabels": ["card"]}}]}]}]
"""

CVAT = """<?xml version="1.0" encoding="utf-8"?>
<annotations>
  <version>1.1</version>
  <meta><task><id>1</id><size>1500</size></task><source>match.mp4</source></meta>
  <track id="0" label="goal" source="manual">
    <box frame="50" outside="0" occluded="0" keyframe="1" xtl="0" ytl="0" xbr="9" ybr="9"/>
    <box frame="51" outside="0" occluded="0" keyframe="0" xtl="0" ytl="0" xbr="9" ybr="9"/>
    <box frame="150" outside="1" occluded="0" keyframe="1" xtl="0" ytl="0" xbr="9" ybr="9"/>
  </track>
  <track id="1" label="card" source="manual">
    <polygon frame="250" outside="0" occluded="0" keyframe="1" points="0,0;9,0;9,9"/>
    <polygon frame="259" outside="0" occluded="0" keyframe="0" points="0,0;9,0;9,9"/>
  </track>
</annotations>
"""

ELAN = """<?xml version="1.0" encoding="UTF-8"?>
<ANNOTATION_DOCUMENT AUTHOR="" DATE="2024-01-01T00:00:00+00:00" FORMAT="3.0" VERSION="3.0">
  <HEADER MEDIA_FILE="" TIME_UNITS="milliseconds">
    <MEDIA_DESCRIPTOR MEDIA_URL="file:///C:/games/my%20match.wav" MIME_TYPE="audio/x-wav"/>
    <MEDIA_DESCRIPTOR MEDIA_URL="file:///C:/games/match.mp4" MIME_TYPE="video/mp4"
      RELATIVE_MEDIA_URL="./match.mp4"/>
  </HEADER>
  <TIME_ORDER>
    <TIME_SLOT TIME_SLOT_ID="ts1" TIME_VALUE="2000"/>
    <TIME_SLOT TIME_SLOT_ID="ts2" TIME_VALUE="6000"/>
    <TIME_SLOT TIME_SLOT_ID="ts3" TIME_VALUE="10000"/>
    <TIME_SLOT TIME_SLOT_ID="ts4" TIME_VALUE="10400"/>
  </TIME_ORDER>
  <TIER LINGUISTIC_TYPE_REF="default-lt" TIER_ID="events">
    <ANNOTATION><ALIGNABLE_ANNOTATION ANNOTATION_ID="a1" TIME_SLOT_REF1="ts1"
      TIME_SLOT_REF2="ts2"><ANNOTATION_VALUE>goal</ANNOTATION_VALUE></ALIGNABLE_ANNOTATION>
    </ANNOTATION>
  </TIER>
  <TIER LINGUISTIC_TYPE_REF="default-lt" TIER_ID="card">
    <ANNOTATION><ALIGNABLE_ANNOTATION ANNOTATION_ID="a2" TIME_SLOT_REF1="ts3"
      TIME_SLOT_REF2="ts4"><ANNOTATION_VALUE></ANNOTATION_VALUE></ALIGNABLE_ANNOTATION>
    </ANNOTATION>
  </TIER>
  <TIER LINGUISTIC_TYPE_REF="note" PARENT_REF="events" TIER_ID="notes">
    <ANNOTATION><REF_ANNOTATION ANNOTATION_ID="a3" ANNOTATION_REF="a1">
      <ANNOTATION_VALUE>header</ANNOTATION_VALUE></REF_ANNOTATION></ANNOTATION>
  </TIER>
</ANNOTATION_DOCUMENT>
"""

SPORTSCODE = """<?xml version="1.0" encoding="UTF-8"?>
<file>
  <SORT_INFO><sort_type>sort order</sort_type></SORT_INFO>
  <ALL_INSTANCES>
    <instance><ID>1</ID><start>2.0000000</start><end>6.0000000</end><code>goal</code>
      <label><group>Team</group><text>home</text></label>
      <label><text>header</text></label></instance>
    <instance><ID>2</ID><start>10.0000000</start><end>10.4000000</end><code>card</code></instance>
  </ALL_INSTANCES>
  <ROWS><row><sort_order>1</sort_order><code>goal</code><R>65535</R><G>0</G><B>0</B></row></ROWS>
</file>
"""

OSL = """{"version": "2.0", "labels": {"action": {"type": "single_label",
    "labels": ["goal", "card"]}}, "data": [
  {"id": "match", "inputs": [{"type": "video", "path": "match.mp4", "fps": 25.0}],
   "metadata": {"match_id": "m"}, "events": [
     {"head": "action", "label": "goal", "position_ms": 2000, "gameTime": "1 - 00:02"},
     {"head": "action", "label": "card", "position_ms": "10400", "confidence_score": 0.5}]}]}
"""

PLAYER_SPOTTING = """{"keys": ["game_1_H1", "game_1_H2"], "events": {
  "game_1_H1": [[50, 0, 81, 2, 1, 0], [75, 1, -1, 8, 0, 1]],
  "game_1_H2": []}}
"""

RESOLVE_MARKERS = """TITLE: match
FCM: NON-DROP FRAME

001  001      V     C        01:00:02:00 01:00:02:01 01:00:02:00 01:00:02:01
left foot |C:ResolveColorBlue |M:goal |D:100

002  001      V     C        01:00:10:00 01:00:10:01 01:00:10:00 01:00:10:01
 |C:ResolveColorRed |M:card |D:10

"""

RESOLVE_EDIT_INDEX = (
    '"#","Reel","Match","V","C","Dur","Source In","Source Out","Record Duration","Record In",'
    '"Record Out","Name","Comments","Source Start","Source End","Source Duration","Codec",'
    '"Source FPS","Resolution","Color","Notes","EDL Clip Name","Marker Keywords"\n'
    '"1","","","","C","","01:00:02:00","01:00:06:00","00:00:04:00","01:00:02:00",'
    '"01:00:06:00","","","","","","","0.000","","Blue","goal","","left foot"\n'
    '"2","","","","C","","01:00:10:00","01:00:10:10","00:00:00:10","01:00:10:00",'
    '"01:00:10:10","","","","","","","0.000","","Red","card","",""\n'
)

PREMIERE_MARKERS = """Marker Name\tDescription\tIn\tOut\tDuration\tMarker Type
goal\tleft foot\t00:00:02:00\t00:00:06:00\t00:00:04:00\tComment
\tcard\t00:00:10:00\t00:00:10:10\t00:00:00:10\tComment
"""

BORIS_TABLE = (
    "Observation id,Observation date,Description,Media file,Total length,FPS,Subject,Behavior,"
    "Behavioral category,Modifiers,Behavior type,Start (s),Stop (s),Duration (s),Comment start,"
    "Comment stop\n"
    "final,2024-01-01 10:00:00,,C:/games/match.mp4,60.000,25.00,home,goal,shots,header,STATE,"
    "2.000,6.000,4.000,left foot,\n"
    "final,2024-01-01 10:00:00,,C:/games/match.mp4,60.000,25.00,No focal subject,card,,,STATE,"
    "10.000,10.400,0.400,,\n"
)

BORIS = """{"project_name": "cup", "project_format_version": "7.0", "observations": {
  "final": {"file": {"1": ["C:/games/match.mp4"]}, "type": "MEDIA", "time offset": 0.0,
    "events": [[2.0, "home", "goal", "header", "left foot", 50], [6.0, "home", "goal", "", "", 150],
               [10.0, "", "card", "", "", 250], [10.4, "", "card", "", "", 260]],
    "media_info": {"length": {"C:/games/match.mp4": 60.0}, "fps": {"C:/games/match.mp4": 25.0}}}},
 "behaviors_conf": {"0": {"type": "State event", "key": "g", "code": "goal"},
                    "1": {"type": "State event", "key": "c", "code": "card"}}}
"""

VIA = """{"project": {"pid": "p", "vid_list": ["1"]}, "config": {},
 "attribute": {"1": {"aname": "TEMPORAL-SEGMENTS", "type": 4,
                     "options": {"g": "goal", "c": "card"}},
               "2": {"aname": "team", "type": 1, "options": {}}},
 "file": {"1": {"fid": 1, "fname": "match.mp4", "type": 4, "loc": 1, "src": ""}},
 "view": {"1": {"fid_list": [1]}},
 "metadata": {"1_a": {"vid": "1", "flg": 0, "z": [2, 6], "xy": [], "av": {"1": "g", "2": "home"}},
              "1_b": {"vid": "1", "flg": 0, "z": [10, 10.4], "xy": [], "av": {"1": "c"}},
              "1_c": {"vid": "1", "flg": 0, "z": [3], "xy": [2, 1, 1, 9, 9], "av": {"2": "x"}}}}
"""

TIME_LIST = """0:02 - 0:06 goal

[0:00:10] - [0:00:10.4] – card
"""

SAMPLES = {
    "csv": CSV,
    "soccernet": SOCCERNET,
    "activitynet": ACTIVITYNET,
    "label-studio": LABEL_STUDIO,
    "osl": OSL,
    "player-spotting": PLAYER_SPOTTING,
    "cvat": CVAT,
    "elan": ELAN,
    "sportscode": SPORTSCODE,
    "resolve-markers": RESOLVE_MARKERS,
    "resolve-edit-index": RESOLVE_EDIT_INDEX,
    "premiere-markers": PREMIERE_MARKERS,
    "boris": BORIS,
    "boris-table": BORIS_TABLE,
    "via": VIA,
    "time-list": TIME_LIST,
}


def save(folder: Path, text: str | bytes, name: str = "labels.txt") -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def touch(folder: Path, *names: str) -> None:
    for name in names:
        save(folder, b"", name)
