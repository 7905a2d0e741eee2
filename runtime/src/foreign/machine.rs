//! The architectures that are known: how each lays out a file, and the instructions of a program that only ends.
//!
//! The program ends with the number of its arguments less one, so with 0 when it was executed under its
//! own name alone. Where a handler hands it other arguments than its own, it mostly ends with [`GIVEN_MORE`].

use self::Code::{Bytes, Words};

/// The status of a trial program that was given one argument more than it should.
pub const GIVEN_MORE: i32 = 1;

/// One architecture, and where it has several, one of its variants.
pub(super) struct Machine {
    name: &'static str,
    variant: &'static str,
    /// Whether addresses have 64 bits.
    pub(super) wide: bool,
    pub(super) big_endian: bool,
    /// `e_machine`.
    pub(super) number: u16,
    /// `e_flags`.
    pub(super) flags: u32,
    /// What QEMU calls it.
    pub(super) qemu: &'static str,
    pub(super) code: Code,
}

/// Instructions.
pub(super) enum Code {
    /// In the architecture's byte order.
    Words(&'static [u32]),
    /// As they stand in memory.
    Bytes(&'static [u8]),
}

const AMD64: &str = "amd64";
const ARM: &str = "arm";

const fn little(
    name: &'static str,
    number: u16,
    flags: u32,
    qemu: &'static str,
    code: Code,
) -> Machine {
    Machine {
        name,
        variant: "",
        wide: true,
        big_endian: false,
        number,
        flags,
        qemu,
        code,
    }
}

const fn big(machine: Machine) -> Machine {
    Machine {
        big_endian: true,
        ..machine
    }
}

const fn narrow(machine: Machine) -> Machine {
    Machine {
        wide: false,
        ..machine
    }
}

const fn variant(variant: &'static str, machine: Machine) -> Machine {
    Machine { variant, ..machine }
}

const X86_64: u16 = 62;
const I386: u16 = 3;
const ARM_32: u16 = 40;
const AARCH64: u16 = 183;
const RISCV: u16 = 243;
const PPC64: u16 = 21;
const S390: u16 = 22;
const MIPS: u16 = 8;
const LOONGARCH: u16 = 258;

/// The second version of the ABI, with entry points that are addresses of code.
const ELF_V2: u32 = 2;
const EABI_5: u32 = 0x500_0000;
const MIPS_64R2: u32 = 0x8000_0000;
/// Floating point registers of 64 bits, and the first version of the object format.
const LOONG_DOUBLE: u32 = 0x43;

/// The code of each: read the number of arguments from the stack, take one off, `exit`. Before it, or among it,
/// variants have instructions that processors of the variant below do not.
const MACHINES: [Machine; 17] = [
    little(
        AMD64,
        X86_64,
        0,
        "x86_64",
        Bytes(b"\x8b\x3c\x24\xff\xcf\xb8\x3c\0\0\0\x0f\x05"),
    ),
    variant(
        "v2",
        little(
            AMD64,
            X86_64,
            0,
            "x86_64",
            // popcnt, pcmpgtq
            Bytes(
                b"\xf3\x0f\xb8\xc0\x66\x0f\x38\x37\xc0\
                  \x8b\x3c\x24\xff\xcf\xb8\x3c\0\0\0\x0f\x05",
            ),
        ),
    ),
    variant(
        "v3",
        little(
            AMD64,
            X86_64,
            0,
            "x86_64",
            // vfmadd231ps, andn, vpaddd of 256 bits
            Bytes(
                b"\xc4\xe2\x7d\xb8\xc0\xc4\xe2\x78\xf2\xc0\xc5\xfd\xfe\xc0\
                  \x8b\x3c\x24\xff\xcf\xb8\x3c\0\0\0\x0f\x05",
            ),
        ),
    ),
    variant(
        "v4",
        little(
            AMD64,
            X86_64,
            0,
            "x86_64",
            // vpaddb of 512 bits, vpaddd of 256 bits in its new form, vpmullq, vplzcntd
            Bytes(
                b"\x62\xf1\x7d\x48\xfc\xc0\x62\xf1\x7d\x28\xfe\xc0\
                  \x62\xf2\xfd\x48\x40\xc0\x62\xf2\x7d\x48\x44\xc0\
                  \x8b\x3c\x24\xff\xcf\xb8\x3c\0\0\0\x0f\x05",
            ),
        ),
    ),
    narrow(little(
        "386",
        I386,
        0,
        "i386",
        Bytes(b"\x8b\x1c\x24\x4b\xb8\x01\0\0\0\xcd\x80"),
    )),
    little(
        "arm64",
        AARCH64,
        0,
        "aarch64",
        Words(&[0xf940_03e0, 0xd100_0400, 0xd280_0ba8, 0xd400_0001]),
    ),
    variant(
        "v5",
        narrow(little(
            ARM,
            ARM_32,
            EABI_5,
            "arm",
            Words(&[0xe59d_0000, 0xe240_0001, 0xe3a0_7001, 0xef00_0000]),
        )),
    ),
    variant(
        "v6",
        narrow(little(
            ARM,
            ARM_32,
            EABI_5,
            "arm",
            // rev
            Words(&[
                0xe6bf_0f30,
                0xe59d_0000,
                0xe240_0001,
                0xe3a0_7001,
                0xef00_0000,
            ]),
        )),
    ),
    variant(
        "v7",
        narrow(little(
            ARM,
            ARM_32,
            EABI_5,
            "arm",
            // movw
            Words(&[0xe59d_0000, 0xe240_0001, 0xe300_7001, 0xef00_0000]),
        )),
    ),
    variant(
        "v8",
        narrow(little(
            ARM,
            ARM_32,
            EABI_5,
            "arm",
            // lda r0, [sp]
            Words(&[0xe19d_0c9f, 0xe240_0001, 0xe300_7001, 0xef00_0000]),
        )),
    ),
    little(
        "riscv64",
        RISCV,
        0,
        "riscv64",
        Words(&[0x0001_3503, 0xfff5_0513, 0x05d0_0893, 0x0000_0073]),
    ),
    little(
        "ppc64le",
        PPC64,
        ELF_V2,
        "ppc64le",
        Words(&[0xe861_0000, 0x3863_ffff, 0x3800_0001, 0x4400_0002]),
    ),
    big(little(
        "ppc64",
        PPC64,
        ELF_V2,
        "ppc64",
        Words(&[0xe861_0000, 0x3863_ffff, 0x3800_0001, 0x4400_0002]),
    )),
    big(little(
        "s390x",
        S390,
        0,
        "s390x",
        Bytes(b"\xe3\x20\xf0\0\0\x04\xa7\x2b\xff\xff\x0a\x01"),
    )),
    little(
        "mips64le",
        MIPS,
        MIPS_64R2,
        "mips64el",
        Words(&[0xdfa4_0000, 0x6484_ffff, 0x2402_13c2, 0x0000_000c]),
    ),
    big(little(
        "mips64",
        MIPS,
        MIPS_64R2,
        "mips64",
        Words(&[0xdfa4_0000, 0x6484_ffff, 0x2402_13c2, 0x0000_000c]),
    )),
    little(
        "loong64",
        LOONGARCH,
        LOONG_DOUBLE,
        "loongarch64",
        Words(&[0x28c0_0064, 0x02ff_fc84, 0x0381_740b, 0x002b_0000]),
    ),
];

/// A program for an architecture and its variant, which may be empty: the whole file. None for one that is
/// not known.
pub fn trial(name: &str, variant: &str) -> Option<Vec<u8>> {
    find(name, variant).map(Machine::program)
}

/// The architecture of that name.
pub(super) fn find(name: &str, variant: &str) -> Option<&'static Machine> {
    let variant = match (name, variant) {
        (AMD64, "v1") | ("arm64", "v8") => "",
        (ARM, "") => "v7",
        (_, variant) => variant,
    };
    let mut all = MACHINES.iter();
    all.find(|machine| machine.name == name && machine.variant == variant)
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::CommandExt as _;
    use std::process::Command;

    use super::*;

    /// Writes the program into a directory of its own.
    fn written(machine: &Machine) -> (tempfile::TempDir, std::path::PathBuf) {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("trial");
        std::fs::write(&path, machine.program()).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        (dir, path)
    }

    #[test]
    fn the_own_program_tells_its_arguments() {
        let own = match std::env::consts::ARCH {
            "x86_64" => AMD64,
            "aarch64" => "arm64",
            other => return eprintln!("skipped: there is no program to expect for {other}"),
        };
        let (_dir, path) = written(find(own, "").unwrap());
        for (args, status) in [(vec![], 0), (vec!["a"], GIVEN_MORE), (vec!["a", "b"], 2)] {
            let ended = Command::new(&path).args(&args).status().unwrap();
            assert_eq!(ended.code(), Some(status), "{args:?}");
        }
    }

    #[test]
    fn qemu_understands_every_program() {
        for machine in &MACHINES {
            let program = format!("qemu-{}-static", machine.qemu);
            let (_dir, path) = written(machine);
            let mut command = Command::new(&program);
            // The processor with everything that QEMU can do, which may be less than a variant asks for.
            match (machine.name, machine.variant) {
                (AMD64, "v4") => continue,
                (AMD64 | ARM, _) => command.args(["-cpu", "max"]),
                _ => &mut command,
            };
            match command.arg0(&program).arg(&path).status() {
                Ok(ended) => assert_eq!(ended.code(), Some(0), "{} on {program}", machine.name),
                Err(error) => eprintln!("skipped: {program}: {error}"),
            }
        }
    }

    #[test]
    fn names_are_those_of_images() {
        for (name, variant, is_known) in [
            ("amd64", "v1", true),
            ("amd64", "v3", true),
            ("amd64", "v9", false),
            ("arm64", "", true),
            ("arm", "", true),
            ("arm", "v7", true),
            ("ppc64le", "", true),
            ("sparc64", "", false),
            ("", "", false),
        ] {
            assert_eq!(trial(name, variant).is_some(), is_known, "{name}/{variant}");
        }
    }
}
