pub(crate) mod socket;
