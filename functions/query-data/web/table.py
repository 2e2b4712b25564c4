"""The web pages of `/rejected` and `/runs`."""

from werkzeug.datastructures import MultiDict

from ..paging import MAX_LIMIT, Page
from .page import query_link, render


def table_page(template: str, path: str, parameters: MultiDict[str, str], page: Page) -> bytes:
    """Render the web page for a page of results. `parameters` are those of the request."""
    other_parameters = [(name, text) for name, text in parameters.items(multi=True) if name != "after"]
    return render(
        template,
        path,
        rows=page.rows,
        is_continued="after" in parameters,
        links={
            "first": query_link(other_parameters),
            "next": query_link([*other_parameters, ("after", page.cursor)]) if page.cursor else None,
            "json": query_link([("format", "json"), ("limit", str(MAX_LIMIT))]),
        },
    )
