//! Changes to what a processor shows its guest: bits of CPUID and of model-specific registers (`/cpu-config`).
//!
//! The host's KVM has the last word: one without hardware virtualisation may show its own CPUID whatever it was told.
use std::str::FromStr;

use kvm_bindings::{CpuId, Msrs, kvm_msr_entry};
use kvm_ioctls::{VcpuFd, VmFd};
use serde::{Deserialize, Deserializer, Serialize};

use crate::machine::MachineError;

/// The body of `/cpu-config`. Numbers are words: `0x`, `0b`, or decimal.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct CpuTemplate {
    pub(crate) kvm_capabilities: Vec<Capability>,
    pub(crate) cpuid_modifiers: Vec<LeafModifier>,
    pub(crate) msr_modifiers: Vec<MsrModifier>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) reg_modifiers: Vec<serde_json::Value>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) vcpu_features: Vec<serde_json::Value>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct LeafModifier {
    leaf: Word,
    subleaf: Word,
    flags: u32,
    modifiers: Vec<RegisterModifier>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RegisterModifier {
    register: Register,
    bitmap: Bits<32>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Register {
    Eax,
    Ebx,
    Ecx,
    Edx,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct MsrModifier {
    addr: Word,
    bitmap: Bits<64>,
}

/// A number as a word.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(into = "String")]
pub(crate) struct Word(u32);

/// A capability of KVM that has to be there, or (`!`) need not be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(into = "String")]
pub(crate) struct Capability {
    pub(crate) number: u32,
    pub(crate) is_removed: bool,
}

/// `0b` and one digit for each bit, the highest first: 0, 1, or x for what stays.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(into = "String")]
pub(crate) struct Bits<const WIDTH: usize> {
    changed: u64,
    value: u64,
}

impl FromStr for Word {
    type Err = String;

    fn from_str(text: &str) -> Result<Word, String> {
        let parsed = if let Some(digits) = text.strip_prefix("0x") {
            u32::from_str_radix(digits, 16)
        } else if let Some(digits) = text.strip_prefix("0b") {
            u32::from_str_radix(digits, 2)
        } else {
            text.parse()
        };
        parsed
            .map(Word)
            .map_err(|_| format!("{text:?} is no number of 32 bits (0x, 0b or decimal)"))
    }
}

impl FromStr for Capability {
    type Err = String;

    fn from_str(text: &str) -> Result<Capability, String> {
        let (digits, is_removed) = match text.strip_prefix('!') {
            Some(digits) => (digits, true),
            None => (text, false),
        };
        let number = digits
            .parse()
            .map_err(|_| format!("{text:?} is no number of a KVM capability"))?;
        Ok(Capability { number, is_removed })
    }
}

impl<const WIDTH: usize> FromStr for Bits<WIDTH> {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is not 0b and at most {WIDTH} of 0, 1 and x");
        let digits = text.strip_prefix("0b").ok_or_else(wrong)?;
        let digits: Vec<u8> = digits.bytes().filter(|digit| *digit != b'_').collect();
        if digits.is_empty() || digits.len() > WIDTH {
            return Err(wrong());
        }
        let mut bits = Bits {
            changed: 0,
            value: 0,
        };
        for digit in digits {
            bits.changed <<= 1;
            bits.value <<= 1;
            match digit {
                b'0' => bits.changed |= 1,
                b'1' => {
                    bits.changed |= 1;
                    bits.value |= 1;
                }
                b'x' => {}
                _ => return Err(wrong()),
            }
        }
        Ok(bits)
    }
}

impl From<Word> for String {
    fn from(word: Word) -> String {
        format!("{:#x}", word.0)
    }
}

impl From<Capability> for String {
    fn from(capability: Capability) -> String {
        let sign = if capability.is_removed { "!" } else { "" };
        format!("{sign}{}", capability.number)
    }
}

impl<const WIDTH: usize> From<Bits<WIDTH>> for String {
    fn from(bits: Bits<WIDTH>) -> String {
        let digit = |bit: usize| match (bits.changed >> bit & 1, bits.value >> bit & 1) {
            (0, _) => 'x',
            (_, 0) => '0',
            _ => '1',
        };
        let digits: String = (0..WIDTH).rev().map(digit).collect();
        format!("0b{digits}")
    }
}

fn parsed<'de, D: Deserializer<'de>, T: FromStr<Err = String>>(from: D) -> Result<T, D::Error> {
    let text = String::deserialize(from)?;
    text.parse().map_err(serde::de::Error::custom)
}

impl<'de> Deserialize<'de> for Word {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        parsed(from)
    }
}

impl<'de> Deserialize<'de> for Capability {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        parsed(from)
    }
}

impl<'de, const WIDTH: usize> Deserialize<'de> for Bits<WIDTH> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        parsed(from)
    }
}

impl<const WIDTH: usize> Bits<WIDTH> {
    fn apply(&self, to: u64) -> u64 {
        to & !self.changed | self.value
    }
}

/// (leaf, subleaf, register, bits that are hidden): what processors of Intel got after Broadwell, and what a guest of one has no use for
/// (Intel SDM volume 2, CPUID). A guest that saw none of it can go on on any of them.
const HIDDEN: [(u32, u32, Register, u64); 5] = [
    // DTES64, MONITOR, DS-CPL, VMX, SMX, EIST, TM2, CNXT-ID, SDBG, xTPR, PDCM, DCA.
    (0x1, 0, Register::Ecx, 0x0004_cdfc),
    // PSN, DS, ACPI, SS, TM, PBE.
    (0x1, 0, Register::Edx, 0xa864_0000),
    // SGX, HLE, RTM, PQM, MPX, PQE, CLFLUSHOPT, CLWB, PT, SHA, all of AVX-512.
    (0x7, 0, Register::Ebx, 0xffa3_d814),
    // AVX512_VBMI, PKU, WAITPKG, VBMI2, GFNI, VAES, VPCLMULQDQ, VNNI, BITALG, VPOPCNTDQ, LA57, RDPID.
    (0x7, 0, Register::Ecx, 0x0041_5f6a),
    // XCR0: bounds registers, AVX-512, protection keys.
    (0xd, 0, Register::Eax, 0x0000_02f8),
];

impl CpuTemplate {
    /// The templates that `/machine-config` names; their use is deprecated by Firecracker. Those of Intel hide the same here, and touch no
    /// model-specific register. None for those of other makers.
    pub(crate) fn named(name: &str) -> Option<CpuTemplate> {
        let hidden: &[_] = match name {
            "None" => &[],
            "T2" | "T2S" | "T2CL" | "C3" => &HIDDEN,
            _ => return None,
        };
        let modifier = |(leaf, subleaf, register, bits): &(u32, u32, Register, u64)| LeafModifier {
            leaf: Word(*leaf),
            subleaf: Word(*subleaf),
            flags: u32::from(*leaf != 1),
            modifiers: vec![RegisterModifier {
                register: *register,
                bitmap: Bits {
                    changed: *bits,
                    value: 0,
                },
            }],
        };
        Some(CpuTemplate {
            cpuid_modifiers: hidden.iter().map(modifier).collect(),
            ..CpuTemplate::default()
        })
    }

    /// Whether KVM has what the template wants of it.
    pub(crate) fn check_capabilities(&self, vm: &VmFd) -> Result<(), MachineError> {
        let wanted = self
            .kvm_capabilities
            .iter()
            .filter(|capability| !capability.is_removed);
        for capability in wanted {
            let number = capability.number;
            if vm.check_extension_raw(number.into()) <= 0 {
                return Err(MachineError::NoCapability(number));
            }
        }
        Ok(())
    }

    /// Changes what the host's KVM offers.
    pub(crate) fn change_cpuid(&self, cpuid: &mut CpuId) -> Result<(), MachineError> {
        for modifier in &self.cpuid_modifiers {
            let (leaf, subleaf) = (modifier.leaf.0, modifier.subleaf.0);
            let entry = cpuid
                .as_mut_slice()
                .iter_mut()
                .find(|entry| (entry.function, entry.index) == (leaf, subleaf))
                .ok_or(MachineError::NoLeaf { leaf, subleaf })?;
            entry.flags = modifier.flags;
            for change in &modifier.modifiers {
                let register = match change.register {
                    Register::Eax => &mut entry.eax,
                    Register::Ebx => &mut entry.ebx,
                    Register::Ecx => &mut entry.ecx,
                    Register::Edx => &mut entry.edx,
                };
                // At most 32 digits were read.
                *register =
                    u32::try_from(change.bitmap.apply((*register).into())).unwrap_or(*register);
            }
        }
        Ok(())
    }

    /// Changes the registers of one processor.
    pub(crate) fn change_msrs(&self, vcpu: &VcpuFd) -> Result<(), MachineError> {
        for modifier in &self.msr_modifiers {
            let index = modifier.addr.0;
            let refused = || MachineError::RefusedMsr {
                index,
                set: 0,
                wanted: 1,
            };
            let entry = kvm_msr_entry {
                index,
                ..kvm_msr_entry::default()
            };
            let mut msrs = Msrs::from_entries(&[entry]).map_err(|_| refused())?;
            if vcpu.get_msrs(&mut msrs).ok() != Some(1) {
                return Err(refused());
            }
            for entry in msrs.as_mut_slice() {
                entry.data = modifier.bitmap.apply(entry.data);
            }
            if vcpu.set_msrs(&msrs).ok() != Some(1) {
                return Err(refused());
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kvm_bindings::kvm_cpuid_entry2;

    fn template(text: &str) -> CpuTemplate {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn bits_change_or_stay_as_the_bitmap_says() {
        let template = template(
            r#"{"cpuid_modifiers": [{"leaf": "0x7", "subleaf": "0b0", "flags": 1, "modifiers": [{"register": "ebx", "bitmap": "0bx01"}]}]}"#,
        );
        let entry = kvm_cpuid_entry2 {
            function: 7,
            ebx: 0b1110,
            ..kvm_cpuid_entry2::default()
        };
        let mut cpuid = CpuId::from_entries(&[entry]).unwrap();
        template.change_cpuid(&mut cpuid).unwrap();
        assert_eq!(cpuid.as_slice()[0].ebx, 0b1101);
        let text = serde_json::to_string(&template).unwrap();
        assert_eq!(
            serde_json::from_str::<CpuTemplate>(&text).unwrap(),
            template
        );
    }

    #[test]
    fn what_is_no_bitmap_number_or_leaf_is_refused() {
        for wrong in ["", "01", "0b", "0b2", &format!("0b{}", "x".repeat(33))] {
            assert!(wrong.parse::<Bits<32>>().is_err(), "{wrong}");
        }
        for wrong in ["0x", "0x1ffffffff", "-1", "x"] {
            assert!(wrong.parse::<Word>().is_err(), "{wrong}");
        }
        assert_eq!(
            "!121".parse(),
            Ok(Capability {
                number: 121,
                is_removed: true
            })
        );
        let template = template(
            r#"{"cpuid_modifiers": [{"leaf": "9", "subleaf": "0", "flags": 0, "modifiers": []}]}"#,
        );
        let mut cpuid = CpuId::new(1).unwrap();
        assert!(template.change_cpuid(&mut cpuid).is_err());
    }
}
