from typing import Any

from django.db import migrations

from monitoring.shipped_rules import SHIPPED


def ship(apps: Any, schema_editor: Any) -> None:
    Rule = apps.get_model("monitoring", "Rule")
    for name, (severity, title, hold_s, condition) in SHIPPED.items():
        values = {"severity": severity, "title": title, "hold_s": hold_s, "condition": condition}
        Rule.objects.get_or_create(name=name, defaults=values)


class Migration(migrations.Migration):
    dependencies = [("monitoring", "0003_rules")]
    operations = [migrations.RunPython(ship, migrations.RunPython.noop)]
