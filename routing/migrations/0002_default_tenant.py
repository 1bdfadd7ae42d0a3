"""The rows that every installation has: the default tenant, and the single rows of Controller and Revision."""

from django.db import migrations


def add_rows(apps, schema_editor):
    apps.get_model("routing", "Tenant").objects.get_or_create(name="default")
    apps.get_model("routing", "Controller").objects.get_or_create(id=1)
    apps.get_model("routing", "Revision").objects.get_or_create(id=1)


class Migration(migrations.Migration):
    dependencies = [("routing", "0001_initial")]

    operations = [migrations.RunPython(add_rows, migrations.RunPython.noop)]
