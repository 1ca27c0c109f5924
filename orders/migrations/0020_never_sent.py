"""A transaction that the simulated chain has never seen, and takes no more, has no `sent_at`."""

from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [("orders", "0019_placed_at_once")]

    operations = [
        migrations.RunSQL(
            # Such a row had the moment at which it was recorded, as it expired.
            "ALTER TABLE chain.transaction ALTER COLUMN sent_at DROP NOT NULL;"
            "UPDATE chain.transaction SET sent_at = NULL WHERE outcome = 'expired' "
            "AND settles_at - sent_at BETWEEN interval '-1 ms' AND interval '1 ms'",
            "UPDATE chain.transaction SET sent_at = settles_at WHERE sent_at IS NULL;"
            "ALTER TABLE chain.transaction ALTER COLUMN sent_at SET NOT NULL",
        )
    ]
