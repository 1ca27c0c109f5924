"""The ledger of the simulated chain. Only `dex.simulation` writes it, on connections of its own."""

from pathlib import Path

from django.db import migrations

import dex.simulation

LEDGER = (Path(dex.simulation.__file__).parent / "chain.sql").read_text()


class Migration(migrations.Migration):
    dependencies = [("orders", "0002_claim")]

    operations = [migrations.RunSQL(LEDGER, "DROP SCHEMA chain CASCADE")]
