//! What O_PATH opens: a place, and nothing that can be done with its contents. open(2), O_PATH.

use super::attributes::Attributes;
use super::file::File;
use super::place::Place;
use crate::errno::Result;

#[derive(Debug)]
pub struct PathFile {
    place: Place,
    attributes: Attributes,
}

impl PathFile {
    #[must_use]
    pub fn new(place: Place, attributes: Attributes) -> Self {
        Self { place, attributes }
    }
}

impl File for PathFile {
    fn attributes(&self) -> Result<Attributes> {
        Ok(self.attributes)
    }

    fn place(&self) -> Option<&Place> {
        Some(&self.place)
    }
}
