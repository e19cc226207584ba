//! casemate-init
