//! /logger.
use super::Controller;
use crate::api::model::Logger;
use crate::api::{Fault, Reply};
use crate::log::{self, Level};

impl Controller {
    pub(crate) fn put_logger(&mut self, logger: Logger) -> Result<Reply, Fault> {
        let level = match &logger.level {
            Some(word) => Some(
                Level::parse(word).ok_or_else(|| Fault(format!("Invalid log level {word:?}.")))?,
            ),
            None => None,
        };
        let open = |path: &std::path::PathBuf| {
            log::open(path).map_err(|error| {
                Fault(format!(
                    "Logger error: Failed to open target file: {error} {}",
                    path.display()
                ))
            })
        };
        let file = logger.log_path.as_ref().map(open).transpose()?;
        self.log.change(|settings| {
            settings.level = level.unwrap_or(settings.level);
            settings.shows_level = logger.show_level.unwrap_or(settings.shows_level);
            settings.shows_origin = logger.show_log_origin.unwrap_or(settings.shows_origin);
            if logger.module.is_some() {
                settings.module.clone_from(&logger.module);
            }
            if file.is_some() {
                settings.file = file;
            }
        });
        self.config.logger = Some(logger);
        Ok(Reply::Done)
    }
}
