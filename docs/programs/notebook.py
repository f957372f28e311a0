# %%
import httpx

from aiosupervise import map_all, supervise
from aiosupervise.integrations.http import is_transient

client = httpx.AsyncClient(base_url="https://example.org")


@supervise(retry_on=is_transient, attempt_timeout=10.0)
async def fetch(path):
    response = await client.get(path)
    return response.raise_for_status().text


# %%
paths = [f"/page/{n}" for n in range(20)]
report = await map_all(fetch, paths, limit=10, progress=True)
report

# %%
# The failures, as rows for a data frame: pandas.DataFrame(rows)
rows = [row for row in report.to_dicts() if row["status"] == "failed"]
rows

# %%
# Run again what failed or is pending.
rest = [outcome.input for outcome in (*report.failed, *report.pending)]
again = await map_all(fetch, rest, limit=2, progress=True)
again
