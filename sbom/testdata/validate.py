"""Validates a bill of materials, strictly, by the schema of its version."""

import sys

from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

error = JsonStrictValidator(SchemaVersion.V1_7).validate_str(sys.stdin.read())
if error:
    sys.exit(str(error))
