//! /balloon and /balloon/statistics.
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{Controller, Placed, with_device};
use crate::api::model::{self, BalloonStatisticsUpdate, BalloonUpdate, HintingStart};
use crate::api::{Fault, Reply};
use crate::devices::lock;
use crate::virtio::Transport;
use crate::virtio::balloon::Balloon;

const TOO_LARGE: &str = "Amount of pages requested is too large.";
const CONFIG: &str = "Balloon config";
const UPDATE: &str = "Balloon update";
const PAGES_PER_MIB: u32 = 256;

impl Controller {
    pub(crate) fn put_balloon(&mut self, config: model::Balloon) -> Result<Reply, Fault> {
        self.check_amount(config.amount_mib)
            .map_err(Fault::about(CONFIG))?;
        self.config.balloon = Some(config);
        Ok(Reply::Done)
    }

    fn check_amount(&self, amount_mib: u32) -> Result<(), Fault> {
        if u64::from(amount_mib) > self.machine_config().mem_size_mib {
            return Err(Fault::new(TOO_LARGE));
        }
        Ok(())
    }

    pub(crate) fn balloon(&self) -> Result<Reply, Fault> {
        let balloon = self.config.balloon.as_ref().ok_or_else(missing);
        Reply::json(balloon.map_err(Fault::about(CONFIG))?)
    }

    pub(crate) fn patch_balloon(&mut self, update: &BalloonUpdate) -> Result<Reply, Fault> {
        self.inflate(update.amount_mib)
            .map_err(Fault::about(UPDATE))
    }

    fn inflate(&mut self, amount_mib: u32) -> Result<Reply, Fault> {
        self.check_amount(amount_mib)?;
        self.config.balloon.as_mut().ok_or_else(missing)?.amount_mib = amount_mib;
        self.with_balloon(|transport| {
            transport.reconfigure(|device| {
                if let Some(balloon) = device.downcast_mut::<Balloon>() {
                    balloon.set_target_mib(amount_mib);
                }
            });
        })?;
        Ok(Reply::Done)
    }

    pub(crate) fn balloon_statistics(&mut self) -> Result<Reply, Fault> {
        self.statistics().map_err(Fault::about("Internal VMM"))
    }

    fn statistics(&self) -> Result<Reply, Fault> {
        self.check_statistics()?;
        let mut answer = self.with_balloon(|transport| {
            transport.device().downcast_mut::<Balloon>().map(|balloon| {
                let (target, actual) = (balloon.target_pages(), balloon.actual_pages());
                let sizes = json!({
                    "target_pages": target,
                    "actual_pages": actual,
                    "target_mib": target / PAGES_PER_MIB,
                    "actual_mib": actual / PAGES_PER_MIB,
                });
                (sizes, serde_json::to_value(balloon.statistics()))
            })
        })?;
        match answer.take() {
            Some((Value::Object(mut sizes), Ok(Value::Object(statistics)))) => {
                sizes.extend(statistics);
                Ok(Reply::Json(Value::Object(sizes)))
            }
            _ => Err(missing()),
        }
    }

    pub(crate) fn patch_balloon_statistics(
        &mut self,
        update: &BalloonStatisticsUpdate,
    ) -> Result<Reply, Fault> {
        self.check_statistics().map_err(Fault::about(UPDATE))?;
        if update.stats_polling_interval_s == 0 {
            let reason = Fault::new("Cannot enable/disable the statistics after activation.");
            return Err(Fault::about(UPDATE)(reason));
        }
        if let Some(balloon) = &mut self.config.balloon {
            balloon.stats_polling_interval_s = update.stats_polling_interval_s;
        }
        self.next_statistics = Some(Instant::now());
        Ok(Reply::Done)
    }

    /// Without a body the end of the run is acknowledged by itself.
    pub(crate) fn start_hinting(&mut self, start: Option<HintingStart>) -> Result<Reply, Fault> {
        let acknowledges = start.is_none_or(|start| start.acknowledge_on_stop);
        self.change_hinting(|balloon| balloon.start_hinting(acknowledges))
            .map_err(Fault::about(UPDATE))
    }

    pub(crate) fn stop_hinting(&mut self) -> Result<Reply, Fault> {
        self.change_hinting(Balloon::stop_hinting)
            .map_err(Fault::about(UPDATE))
    }

    pub(crate) fn hinting(&mut self) -> Result<Reply, Fault> {
        self.hinting_status().map_err(Fault::about(UPDATE))
    }

    fn hinting_status(&self) -> Result<Reply, Fault> {
        self.check_hinting()?;
        let place = self.place(&Placed::Balloon).ok_or_else(missing)?;
        let hinting = with_device(self.machine.as_ref(), place, |balloon: &mut Balloon| {
            balloon.hinting()
        });
        let hinting = hinting.ok_or_else(missing)?;
        Ok(Reply::Json(json!({
            "host_cmd": hinting.host_command,
            "guest_cmd": hinting.guest_command,
        })))
    }

    fn change_hinting(&mut self, change: impl FnOnce(&mut Balloon)) -> Result<Reply, Fault> {
        self.check_hinting()?;
        self.with_balloon(|transport| {
            transport.reconfigure(|device| {
                if let Some(balloon) = device.downcast_mut::<Balloon>() {
                    change(balloon);
                }
            });
        })?;
        Ok(Reply::Done)
    }

    fn check_hinting(&self) -> Result<(), Fault> {
        let config = self.config.balloon.as_ref().ok_or_else(missing)?;
        if config.free_page_hinting {
            Ok(())
        } else {
            Err(Fault::new(
                "Free page hinting for the balloon device is not enabled",
            ))
        }
    }

    fn check_statistics(&self) -> Result<(), Fault> {
        let config = self.config.balloon.as_ref().ok_or_else(missing)?;
        if config.stats_polling_interval_s == 0 {
            return Err(Fault::new(
                "Statistics for the balloon device are not enabled",
            ));
        }
        Ok(())
    }

    /// Asks the guest for statistics when it is time to.
    pub(super) fn ask_when_due(&mut self) {
        let is_due = self.next_statistics.is_some_and(|at| at <= Instant::now());
        let interval = self
            .config
            .balloon
            .as_ref()
            .map_or(0, |balloon| balloon.stats_polling_interval_s);
        if !is_due {
            return;
        }
        self.next_statistics =
            (interval > 0).then(|| Instant::now() + Duration::from_secs(interval.into()));
        if !self.is_paused {
            // Without a balloon nothing is due.
            let _ = self.with_balloon(|transport| {
                if let Some(balloon) = transport.device().downcast_mut::<Balloon>() {
                    balloon.ask();
                }
                transport.ready();
            });
        }
    }

    fn with_balloon<T>(&self, work: impl FnOnce(&mut Transport) -> T) -> Result<T, Fault> {
        let place = self
            .placed
            .iter()
            .position(|placed| *placed == Placed::Balloon)
            .ok_or_else(missing)?;
        let machine = self.machine.as_ref().ok_or_else(missing)?;
        let transport = machine.bus.virtio.get(place).ok_or_else(missing)?;
        Ok(work(&mut lock(transport)))
    }
}

fn missing() -> Fault {
    Fault::new("No balloon device found.")
}
