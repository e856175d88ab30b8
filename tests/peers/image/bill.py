"""Whether a file is a bill of materials by CycloneDX's own schema, strictly, and each licence in it one of SPDX's expressions.

bill.py FILE   says what is wrong and ends with 1, or says nothing
"""
import json
import sys

from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from license_expression import get_spdx_licensing

with open(sys.argv[1], encoding="utf-8") as file:
    text = file.read()
bill = json.loads(text)
if error := JsonStrictValidator(SchemaVersion.from_version(bill["specVersion"])).validate_str(text):
    sys.exit(str(error))
known = get_spdx_licensing()
for component in [bill["metadata"]["component"], *bill["components"]]:
    for licence in component["licenses"]:
        if errors := known.validate(licence["expression"]).errors:
            sys.exit(f"{component['name']}: {errors}")
