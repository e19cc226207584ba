//! casemate-plan
