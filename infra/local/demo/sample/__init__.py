"""Sample files: 100 people with names in many scripts, most of them with photos, and a few rejected or unused files.

The files are the same every time. All people in people.csv are valid; the column `form` chooses one of _FORMS.
"""

import csv
from datetime import UTC, datetime, timedelta
from pathlib import Path

from .avatar import avatar

_PEOPLE = Path(__file__).parent / "people.csv"

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

_HEADER = "first_name,last_name,birthts\n"

_FORMS = {
    "plain": _HEADER + "{first},{last},{birthts}\n",
    "bom": "\ufeff" + _HEADER + "{first},{last},{birthts}\n",
    "crlf": "first_name,last_name,birthts\r\n{first},{last},{birthts}\r\n",
    "quoted": '"first_name","last_name","birthts"\n"{first}","{last}","{birthts}"\n',
    "spaced": " first_name , last_name , birthts \n  {first}  , {last} ,  {birthts} \n",
    "reordered": "birthts,last_name,first_name\n{birthts},{last},{first}\n",
    "no_newline": _HEADER + "{first},{last},{birthts}",
}

_OTHER_FILES = {
    "2001.csv": _HEADER,  # no row
    "2002.csv": _HEADER + "Text,Birth,1 May 1990\n",
    "2003.csv": _HEADER + "Not,Yet-Born,4102444800000\n",  # 2100-01-01
    "2004.csv": "first_name,birthts\nNo-Last-Name,641520000000\n",
    "jane.csv": _HEADER + "Jane,Not-a-Number,641520000000\n",
    "notes.txt": "Neither a person nor a photo: ignored.\n",
}

_USER_ID_WITHOUT_CSV = "2005"


def write(directory: Path) -> int:
    """Write the files into `directory`, which must exist; return their number."""
    files = _files()
    for name, content in files.items():
        (directory / name).write_bytes(content)
    return len(files)


def _files() -> dict[str, bytes]:
    files = {name: text.encode() for name, text in _OTHER_FILES.items()}
    files[f"{_USER_ID_WITHOUT_CSV}.png"] = avatar(_USER_ID_WITHOUT_CSV)
    with _PEOPLE.open(encoding="utf-8", newline="") as lines:
        for index, person in enumerate(csv.DictReader(lines)):
            user_id = person["user_id"]
            files[f"{user_id}.csv"] = _csv(person).encode()
            if index % 4 != 2:
                files[f"{user_id}.png"] = avatar(user_id)
    return files


def _csv(person: dict[str, str]) -> str:
    birthts = (datetime.fromisoformat(person["born"]) - _EPOCH) // timedelta(milliseconds=1)
    first, last = (person[name].replace('"', '""') for name in ("first_name", "last_name"))
    return _FORMS[person["form"]].format(first=first, last=last, birthts=birthts)
