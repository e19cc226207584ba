//! casemate-agent
