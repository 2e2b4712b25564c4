"""query-data gives the same results as pandas for 6,000 people."""

import itertools
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime
from random import Random
from threading import Event
from urllib.parse import urlencode

import numpy as np
import pandas as pd
import pytest
import urllib3

from tests.stack import HANG_TIMEOUT, Stack

Query = dict[str, str | list[str]]

PEOPLE = 6_000
FIRST_NAMES = ["Ada", "ada", "Zoë", "Łukasz", "Anna", "Ann", "O'Neil", "נועה", "Éva", "Al"]
LAST_NAMES = ["Byron", "byron", "Nowak", "Żak", "van der Berg", "Annan", "de Wit", "Ng", "Ahmed"]

INSERT = """
insert into users (user_id, first_name, last_name, birthts, img_path, csv_etag, csv_modified)
select user_id, first_name, last_name, birthts, img_path, 'etag', now()
from unnest(
    cast(:user_id as text[]), cast(:first_name as text[]), cast(:last_name as text[]), cast(:birthts as bigint[]),
    cast(:img_path as text[])
) as person (user_id, first_name, last_name, birthts, img_path)
"""

PHOTO_FILTERS: list[Query] = [{}, {"is_image_exists": "true"}, {"is_image_exists": "0"}]
AGE_FILTERS: list[Query] = [{}, {"min_age": "30"}, {"max_age": "41.75"}, {"min_age": "30", "max_age": "41.75"}]
NAME_FILTERS: list[Query] = [{}, {"name": "ann"}, {"name": "ŻA"}]
SORTS = ["user_id", "-user_id", "birthdate", "-birthdate", "last_name", "-last_name"]


def make_people(seed: int = 4) -> pd.DataFrame:
    """Return people with few distinct names. Some share a birthdate."""
    random = np.random.default_rng(seed)
    today = (datetime.now(UTC).date() - date(1970, 1, 1)).days
    days = today - random.integers(0, 33_000, PEOPLE)
    user_id = pd.Series(random.permutation(PEOPLE * 9)[:PEOPLE]).astype(str)
    user_id[::7] = "00" + user_id[::7]
    with_photo = random.random(PEOPLE) < 0.3
    return pd.DataFrame(
        {
            "user_id": user_id,
            "first_name": random.choice(FIRST_NAMES, PEOPLE),
            "last_name": random.choice(LAST_NAMES, PEOPLE),
            "birthts": days * 86_400_000 + random.integers(0, 86_400_000, PEOPLE),
            "birthdate": pd.to_datetime(days, unit="D"),
            "img_path": ("src/" + user_id + ".png").where(with_photo, None),
        }
    ).drop_duplicates("user_id")


def ages(birthdates: "pd.Series[pd.Timestamp]", today: date) -> "pd.Series[float]":
    """Compute ages in pandas: completed years plus the fraction of the current one."""
    year, month, day = (getattr(birthdates.dt, part) for part in ("year", "month", "day"))

    def birthday(years: "pd.Series[int]") -> "pd.Series[pd.Timestamp]":
        first = pd.to_datetime(pd.DataFrame({"year": years, "month": month, "day": 1}))
        dates: pd.Series[pd.Timestamp] = first + pd.to_timedelta(day - 1, unit="D")
        return dates

    now = pd.Timestamp(today)
    birthday_year = pd.Series(today.year, index=birthdates.index)
    birthday_year -= (birthday(birthday_year) > now).astype(int)
    elapsed, year_length = now - birthday(birthday_year), birthday(birthday_year + 1) - birthday(birthday_year)
    result: pd.Series[float] = (birthday_year - year) + elapsed.dt.days / year_length.dt.days
    return result


def order(frame: pd.DataFrame, sort: str) -> pd.DataFrame:
    keyed = frame.assign(key=frame["last_name"].str.lower() if sort.endswith("last_name") else frame[sort.strip("-")])
    return keyed.sort_values(["key", "user_id"], ascending=not sort.startswith("-"))


def apply_filters(frame: pd.DataFrame, query: Query) -> pd.DataFrame:
    mask = pd.Series(True, index=frame.index)
    if "is_image_exists" in query:
        mask &= frame["img_path"].notna() == (query["is_image_exists"] == "true")
    if "min_age" in query:
        mask &= frame["age"] >= float(str(query["min_age"]))
    if "max_age" in query:
        mask &= frame["age"] <= float(str(query["max_age"]))
    if "name" in query:
        prefix = str(query["name"]).lower()
        first, last = (frame[name].str.lower().str.startswith(prefix) for name in ("first_name", "last_name"))
        mask &= first | last
    if "user_id" in query:
        mask &= frame["user_id"].isin(query["user_id"])
    return frame[mask]


def combinations(ids: list[str]) -> Iterator[Query]:
    for photo, age, name, by_id in itertools.product(PHOTO_FILTERS, AGE_FILTERS, NAME_FILTERS, [{}, {"user_id": ids}]):
        yield {**photo, **age, **name, **by_id}


class Client:
    def __init__(self, stack: Stack) -> None:
        self._url, self._pool = f"{stack.url}/function/query-data", urllib3.PoolManager(timeout=HANG_TIMEOUT)

    def ids(self, query: Query, sort: str, limit: int | None) -> list[str]:
        """Return the user_ids of all pages, in order."""
        parameters = query | {"sort": sort} | ({} if limit is None else {"limit": str(limit)})
        user_ids: list[str] = []
        url: str | None = "?" + urlencode(parameters, doseq=True)
        while url is not None:
            response = self._pool.request("GET", f"{self._url}{url}")
            assert response.status == 200, response.data
            document = response.json()
            assert limit is None or len(document["result"]) <= limit
            user_ids += [person["user_id"] for person in document["result"]]
            url = document["next"]
        return user_ids


@pytest.fixture(scope="module")
def people(stack: Stack, reset_stack: object) -> Iterator[pd.DataFrame]:
    assert callable(reset_stack)
    reset_stack()
    frame = make_people()
    columns = frame.drop(columns="birthdate").astype(object).where(frame.notna(), None)
    stack.sql(INSERT, **{str(name): columns[name].tolist() for name in columns})
    stack.sql("analyze users")
    yield frame.assign(age=ages(frame["birthdate"], datetime.now(UTC).date()))
    reset_stack()


@pytest.fixture
def arrivals(stack: Stack, people: pd.DataFrame) -> Iterator[None]:
    """Continuously add people, whom the tests ignore. Their user_ids have 12 digits and begin with 9999."""
    stopped = Event()

    def add_people() -> None:
        for number in itertools.count():
            if stopped.is_set():
                return
            days = int(time.time()) // 86_400 - number * 7919 % 33_000
            stack.sql(
                INSERT,
                user_id=[f"9999{number:08}"],
                first_name=[FIRST_NAMES[number % 10]],
                last_name=[LAST_NAMES[number % 9]],
                birthts=[days * 86_400_000],
                img_path=["src/9999.png" if number % 3 else None],
            )

    with ThreadPoolExecutor(1) as executor:
        adding = executor.submit(add_people)
        yield
        stopped.set()
        adding.result()
    stack.sql("delete from users where user_id like '9999________'")


def without_arrivals(ids: list[str]) -> list[str]:
    return [user_id for user_id in ids if not (len(user_id) == 12 and user_id.startswith("9999"))]


def some_user_ids(people: pd.DataFrame) -> list[str]:
    return [*people["user_id"].iloc[::150], "1", "123456789012345678"]


def test_combinations_of_filters_and_sort_match_pandas(stack: Stack, people: pd.DataFrame, arrivals: None) -> None:
    client = Client(stack)
    ordered = {sort: order(people, sort) for sort in SORTS}
    comparisons = 0
    rng = Random(4)
    for query in combinations(some_user_ids(people)):
        paged_sort, *others = rng.sample(SORTS, 3)
        for sort in (paged_sort, *others):
            expected = apply_filters(ordered[sort], query)["user_id"].tolist()
            limits = [1000] if len(expected) > 60 else [1000, 7, 1]
            for limit in (None, *(limits if sort == paged_sort else ())):
                assert without_arrivals(client.ids(query, sort, limit)) == expected, (query, sort, limit)
                comparisons += 1
    assert comparisons > 300


@pytest.mark.parametrize("sort", SORTS)
@pytest.mark.parametrize("limit", [1, 7, 100])
def test_paging_gives_the_same_order_as_pandas(
    stack: Stack, people: pd.DataFrame, arrivals: None, sort: str, limit: int
) -> None:
    query: Query = {"name": "ann", "min_age": "30", "max_age": "32" if limit < 100 else "60"}
    expected = apply_filters(order(people, sort), query)["user_id"].tolist()
    assert len(expected) > 20
    assert without_arrivals(Client(stack).ids(query, sort, limit)) == expected


def test_counts_and_statistics_match_pandas(stack: Stack, people: pd.DataFrame) -> None:
    for query in combinations(some_user_ids(people)):
        expected = apply_filters(people, query)
        parameters = urlencode(query, doseq=True)
        count = stack.request("GET", f"/function/query-data?{parameters}&limit=1&count=1").json()["count"]
        assert count == len(expected)
        stats = stack.request("GET", f"/function/query-data/stats?{parameters}").json()
        assert stats["people"] == len(expected)
        assert stats["with_photo"] == expected["img_path"].notna().sum()
        bars = (expected["age"] // 10).astype(int).value_counts()
        assert {bar["from"]: bar["people"] for bar in stats["ages"] if bar["people"]} == {
            10 * decade: number for decade, number in zip(bars.index.tolist(), bars.tolist(), strict=True)
        }
