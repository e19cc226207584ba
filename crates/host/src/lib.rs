//! casemate-host
