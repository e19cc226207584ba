"""The SDK: sandboxes from Python, in E2B's names. Import from `casemate`, not from here."""
