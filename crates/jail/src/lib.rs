//! casemate-jail
