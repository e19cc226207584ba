//! ACPI tables: processors, I/O APIC, and each virtio device as `LNRO0005` with its window and interrupt.
//!
//! Hardware-reduced ACPI (ACPI 6.5 §4.1): the machine has no fixed hardware, no SCI, no sleep states.
use acpi_tables::aml::{
    Arg, Device, Equal, If, Interrupt, Memory32Fixed, Method, Name, Notify, Package, Path,
    ResourceTemplate, Scope,
};
use acpi_tables::fadt::{FADTBuilder, Flags};
use acpi_tables::madt::{
    EnabledStatus, IoApic, LocalInterruptController, MADT, ProcessorLocalApic,
};
use acpi_tables::rsdp::Rsdp;
use acpi_tables::sdt::Sdt;
use acpi_tables::xsdt::XSDT;
use acpi_tables::{Aml, aml};
use vm_memory::{Bytes, GuestAddress};

use super::BootError;
use crate::Memory;
use crate::machine::layout::{
    ACPI_END, GENERATION, GENERATION_IRQ, IOAPIC, LOCAL_APIC, RSDP, SERIAL_IRQ, VIRTIO_LEN,
};
use crate::virtio::Slot;

const OEM: [u8; 6] = *b"CASEMT";
const TABLE: [u8; 8] = *b"CASEMATE";
const REVISION: u32 = 1;
/// Linux looks for the port's resources when it names `ttyS0`.
const SERIAL_PORT: u16 = 0x3f8;

/// Writes all tables from `RSDP` upwards.
pub(super) fn write(memory: &Memory, nr_cpus: u8, slots: &[Slot]) -> Result<(), BootError> {
    let mut place = Placer {
        memory,
        next: RSDP + 64,
    };
    let dsdt = place.put(&definitions(slots))?;
    let fadt = FADTBuilder::new(OEM, TABLE, REVISION)
        .dsdt_64(dsdt)
        .flag(Flags::HwReducedAcpi)
        .flag(Flags::PwrButton)
        .flag(Flags::SlpButton)
        .finalize();
    let fadt = place.put(&fadt)?;
    let madt = place.put(&processors(nr_cpus))?;
    let mut xsdt = XSDT::new(OEM, TABLE, REVISION);
    xsdt.add_entry(fadt);
    xsdt.add_entry(madt);
    let xsdt = place.put(&xsdt)?;
    let mut bytes = Vec::new();
    Rsdp::new(OEM, xsdt).to_aml_bytes(&mut bytes);
    Ok(memory.write_slice(&bytes, GuestAddress(RSDP))?)
}

/// Lays tables one behind the other.
struct Placer<'a> {
    memory: &'a Memory,
    next: u64,
}

impl Placer<'_> {
    fn put(&mut self, table: &dyn Aml) -> Result<u64, BootError> {
        let mut bytes = Vec::new();
        table.to_aml_bytes(&mut bytes);
        let start = self.next;
        let end = start + bytes.len() as u64;
        if end > ACPI_END {
            return Err(BootError::Acpi);
        }
        self.memory.write_slice(&bytes, GuestAddress(start))?;
        self.next = end.next_multiple_of(16);
        Ok(start)
    }
}

fn processors(nr_cpus: u8) -> MADT {
    let mut madt = MADT::new(
        OEM,
        TABLE,
        REVISION,
        LocalInterruptController::Address(LOCAL_APIC),
    );
    madt.add_structure(IoApic::new(0, IOAPIC, 0));
    for cpu in 0..nr_cpus {
        madt.add_structure(ProcessorLocalApic::new(cpu, cpu, EnabledStatus::Enabled));
    }
    madt
}

fn definitions(slots: &[Slot]) -> Sdt {
    let mut body = Vec::new();
    for (index, slot) in slots.iter().enumerate() {
        virtio(index, slot, &mut body);
    }
    serial(&mut body);
    generation(&mut body);
    let mut dsdt = Sdt::new(*b"DSDT", 36, 6, OEM, TABLE, REVISION);
    dsdt.append_slice(&Scope::raw("_SB_".into(), body));
    dsdt
}

fn virtio(index: usize, slot: &Slot, into: &mut Vec<u8>) {
    let address = u32::try_from(slot.address).unwrap_or(u32::MAX);
    let window = Memory32Fixed::new(true, address, u32::try_from(VIRTIO_LEN).unwrap_or(u32::MAX));
    // Edge-triggered, as irqfd delivers it.
    let interrupt = Interrupt::new(true, true, false, false, slot.irq);
    let resources = ResourceTemplate::new(vec![&window, &interrupt]);
    // Linux: drivers/virtio/virtio_mmio.c virtio_mmio_acpi_match.
    Device::new(
        format!("V{index:03}").as_str().into(),
        vec![
            &Name::new("_HID".into(), &"LNRO0005"),
            &Name::new("_UID".into(), &u32::try_from(index).unwrap_or(u32::MAX)),
            &Name::new("_CCA".into(), &aml::ONE),
            &Name::new("_CRS".into(), &resources),
        ],
    )
    .to_aml_bytes(into);
}

fn serial(into: &mut Vec<u8>) {
    let port = aml::IO::new(SERIAL_PORT, SERIAL_PORT, 1, 8);
    let interrupt = Interrupt::new(true, true, false, false, SERIAL_IRQ);
    let resources = ResourceTemplate::new(vec![&port, &interrupt]);
    Device::new(
        "COM1".into(),
        vec![
            &Name::new("_HID".into(), &aml::EISAName::new("PNP0501")),
            &Name::new("_UID".into(), &aml::ZERO),
            &Name::new("_CRS".into(), &resources),
        ],
    )
    .to_aml_bytes(into);
}

/// The generation id, found by its `_CID`, and the generic event device (ACPI 6.5 §5.6.9) that says when it changed.
fn generation(into: &mut Vec<u8>) {
    let low = u32::try_from(GENERATION.0).unwrap_or(u32::MAX);
    let address = Package::new(vec![&low, &aml::ZERO]);
    Device::new(
        "VGEN".into(),
        vec![
            &Name::new("_HID".into(), &"CSMT0001"),
            &Name::new("_CID".into(), &"VM_Gen_Counter"),
            &Name::new("_DDN".into(), &"VM_Gen_Counter"),
            &Name::new("ADDR".into(), &address),
        ],
    )
    .to_aml_bytes(into);
    let interrupt = Interrupt::new(true, true, false, false, GENERATION_IRQ);
    let resources = ResourceTemplate::new(vec![&interrupt]);
    let device = Path::new("VGEN");
    // Microsoft's specification: the notification is 0x80.
    let notify = Notify::new(&device, &0x80_u8);
    let which = Equal::new(&Arg(0), &GENERATION_IRQ);
    let when = If::new(&which, vec![&notify]);
    let event = Method::new("_EVT".into(), 1, true, vec![&when]);
    Device::new(
        "GED_".into(),
        vec![
            &Name::new("_HID".into(), &"ACPI0013"),
            &Name::new("_CRS".into(), &resources),
            &event,
        ],
    )
    .to_aml_bytes(into);
}
