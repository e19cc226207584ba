//! /machine-config and /cpu-config.
use super::Controller;
use crate::api::model::{HugePages, MachineConfig, MachineUpdate};
use crate::api::{Fault, Reply};
use crate::machine::CpuTemplate;
use crate::raw;

const MAX_CPUS: u8 = 32;
/// 1 TiB: beyond it a page table of the host alone takes gigabytes.
const MAX_MIB: u64 = 1 << 20;
/// Tables, kernel and command line lie in the first two MiB; less boots nothing.
const MIN_MIB: u64 = 2;

impl Controller {
    pub(crate) fn machine(&self) -> Result<Reply, Fault> {
        Reply::json(&self.machine_config())
    }

    pub(super) fn machine_config(&self) -> MachineConfig {
        self.config.machine_config.clone().unwrap_or_default()
    }

    pub(crate) fn put_machine(&mut self, config: MachineConfig) -> Result<Reply, Fault> {
        self.set_machine(config)
            .map_err(Fault::about("Machine config"))
    }

    fn set_machine(&mut self, config: MachineConfig) -> Result<Reply, Fault> {
        check(&config)?;
        if self
            .config
            .balloon
            .as_ref()
            .is_some_and(|balloon| u64::from(balloon.amount_mib) > config.mem_size_mib)
        {
            return Err(Fault::new(
                "The memory size (MiB) is smaller than the previously set balloon device target size.",
            ));
        }
        self.config.machine_config = Some(config);
        Ok(Reply::Done)
    }

    pub(crate) fn patch_machine(&mut self, update: MachineUpdate) -> Result<Reply, Fault> {
        if update == MachineUpdate::default() {
            return Err(Fault::new("Empty PATCH request."));
        }
        let before = self.machine_config();
        self.put_machine(MachineConfig {
            vcpu_count: update.vcpu_count.unwrap_or(before.vcpu_count),
            mem_size_mib: update.mem_size_mib.unwrap_or(before.mem_size_mib),
            smt: update.smt.unwrap_or(before.smt),
            cpu_template: update.cpu_template.or(before.cpu_template),
            track_dirty_pages: update.track_dirty_pages.unwrap_or(before.track_dirty_pages),
            huge_pages: update.huge_pages.unwrap_or(before.huge_pages),
        })
    }

    /// The template is applied when the machine starts; what the host lacks for it is told then.
    pub(crate) fn put_cpu_config(&mut self, template: CpuTemplate) -> Result<Reply, Fault> {
        if !template.reg_modifiers.is_empty() || !template.vcpu_features.is_empty() {
            return Err(Fault::new(
                "reg_modifiers and vcpu_features are for processors of ARM; this monitor is for x86_64.",
            ));
        }
        self.config.cpu_config = Some(template);
        Ok(Reply::Done)
    }

    /// What `/cpu-config` said, or else the named template of `/machine-config`.
    pub(super) fn template(&self) -> CpuTemplate {
        let named = || {
            let name = self.config.machine_config.as_ref()?.cpu_template.clone()?;
            CpuTemplate::named(&name)
        };
        self.config
            .cpu_config
            .clone()
            .or_else(named)
            .unwrap_or_default()
    }
}

fn check(config: &MachineConfig) -> Result<(), Fault> {
    let count = config.vcpu_count;
    if count == 0 || count > MAX_CPUS || (config.smt && count > 1 && !count.is_multiple_of(2)) {
        return Err(Fault::new(
            "The number of vCPUs must be greater than 0, less than 32 and must be 1 or an even number if SMT is enabled.",
        ));
    }
    if !(MIN_MIB..=MAX_MIB).contains(&config.mem_size_mib) {
        return Err(Fault(format!(
            "The memory size (MiB) is either 0, or not a multiple of the configured page size. Here it is {MIN_MIB} to {MAX_MIB}."
        )));
    }
    if let Some(name) = &config.cpu_template {
        if CpuTemplate::named(name).is_none() {
            return Err(Fault(format!(
                "The CPU template {name} is for other processors, or unknown; there are T2, T2S, T2CL, C3 and None."
            )));
        }
    }
    if config.huge_pages != HugePages::None {
        return Err(Fault::missing("Guest memory of huge pages"));
    }
    if config.track_dirty_pages && !raw::notes_writes() {
        return Err(Fault::new(
            "Dirty page tracking needs a host kernel that notes writes by itself (Linux 6.7).",
        ));
    }
    Ok(())
}
