//! BPF instructions with labels: as much of an assembler as the filter needs.
//!
//! Instruction set: Documentation/bpf/standardization/instruction-set.rst
//! (RFC 9669) and linux/bpf.h. [`Asm`] appends instructions; a jump names a
//! [`Label`] that may be placed later, and [`Asm::finish`] writes the distances.
//! Nothing here knows of packets, and nothing here is checked beyond distances:
//! the kernel's verifier judges what comes out.

use std::os::fd::{AsRawFd, BorrowedFd};

/// A register of the BPF machine. `R0` holds results, `R1` to `R5` arguments,
/// which calls destroy; `R6` to `R9` outlive calls; `R10` is the frame pointer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Reg {
    /// What a call or the program returns.
    R0,
    /// First argument.
    R1,
    /// Second argument.
    R2,
    /// Third argument.
    R3,
    /// Fourth argument.
    R4,
    /// Fifth argument.
    R5,
    /// Kept over calls.
    R6,
    /// Kept over calls.
    R7,
    /// Kept over calls.
    R8,
    /// Kept over calls.
    R9,
}

/// One instruction, as the kernel reads it (`struct bpf_insn`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Insn {
    /// Class, operation and kind of source.
    pub code: u8,
    /// Destination in the low four bits, source in the high four.
    pub regs: u8,
    /// Distance of a jump in instructions, or offset of an access in bytes.
    pub off: i16,
    /// The constant.
    pub imm: i32,
}

/// A place in the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Label(usize);

/// The second operand: a register, or a constant that is sign-extended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operand {
    /// The value of a register.
    Reg(Reg),
    /// A constant.
    Imm(i32),
}

impl From<Reg> for Operand {
    fn from(reg: Reg) -> Operand {
        Operand::Reg(reg)
    }
}

impl From<i32> for Operand {
    fn from(imm: i32) -> Operand {
        Operand::Imm(imm)
    }
}

/// How many bytes an access moves (`BPF_W`, `BPF_H`, `BPF_B`, `BPF_DW`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Size {
    /// Four bytes.
    Word = 0x00,
    /// Two bytes.
    Half = 0x08,
    /// One byte.
    Byte = 0x10,
    /// Eight bytes.
    Double = 0x18,
}

/// An operation of arithmetic on 64 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Op {
    /// Sum.
    Add = 0x00,
    /// Bits that both have.
    And = 0x50,
    /// Shift to the left.
    Shl = 0x60,
    /// Shift to the right, filled with zeros.
    Shr = 0x70,
    /// Copy.
    Mov = 0xb0,
}

/// When a jump is taken; comparisons are unsigned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Cond {
    /// Equal.
    Eq = 0x10,
    /// Greater.
    Gt = 0x20,
    /// Greater or equal.
    Ge = 0x30,
    /// Bits in common.
    Set = 0x40,
    /// Not equal.
    Ne = 0x50,
    /// Less.
    Lt = 0xa0,
}

/// A function of the kernel that the program may call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(i32)]
pub enum Helper {
    /// The number of the CPU that runs the program.
    SmpProcessorId = 8,
    /// Sends the frame to the entry of a map; gives the verdict.
    RedirectMap = 51,
}

const CLASS_LD: u8 = 0x00;
const CLASS_LDX: u8 = 0x01;
const CLASS_STX: u8 = 0x03;
const CLASS_ALU: u8 = 0x04;
const CLASS_JMP: u8 = 0x05;
const CLASS_JMP32: u8 = 0x06;
const CLASS_ALU64: u8 = 0x07;
const MODE_MEM: u8 = 0x60;
const SOURCE_REG: u8 = 0x08;
const OP_END: u8 = 0xd0;
const OP_CALL: u8 = 0x80;
const OP_EXIT: u8 = 0x90;
const PSEUDO_MAP_FD: u8 = 1;
const PSEUDO_MAP_VALUE: u8 = 2;

/// A jump is too far for its 16 bits, or its label was never placed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the jump at instruction {at} does not reach its label")]
pub struct Unreachable {
    /// Which instruction jumps.
    pub at: usize,
}

/// A program that is being written.
#[derive(Debug, Default)]
pub struct Asm {
    insns: Vec<Insn>,
    places: Vec<Option<usize>>,
    jumps: Vec<(usize, Label)>,
}

impl Asm {
    /// A label without a place yet.
    pub fn label(&mut self) -> Label {
        self.places.push(None);
        Label(self.places.len() - 1)
    }

    /// The label stands before the next instruction.
    pub fn place(&mut self, label: Label) {
        self.places[label.0] = Some(self.insns.len());
    }

    /// Whether a jump so far goes to the label.
    pub fn is_used(&self, label: Label) -> bool {
        self.jumps.iter().any(|(_, to)| *to == label)
    }

    /// `dst = dst OP operand`, on 64 bits.
    pub fn alu(&mut self, op: Op, dst: Reg, operand: impl Into<Operand>) {
        self.push_with(CLASS_ALU64 | op as u8, dst, 0, operand.into());
    }

    /// `dst = operand`.
    pub fn mov(&mut self, dst: Reg, operand: impl Into<Operand>) {
        self.alu(Op::Mov, dst, operand);
    }

    /// `dst` = the low 16 bits of `dst`, taken as network order.
    pub fn be16(&mut self, dst: Reg) {
        self.push(CLASS_ALU | OP_END | SOURCE_REG, dst as u8, 0, 16);
    }

    /// `dst = *(src + off)`, filled with zeros.
    pub fn load(&mut self, size: Size, dst: Reg, src: Reg, off: i16) {
        let code = CLASS_LDX | MODE_MEM | size as u8;
        self.push(code, dst as u8 | (src as u8) << 4, off, 0);
    }

    /// As [`Asm::load`] of two bytes in network order.
    pub fn load_be16(&mut self, dst: Reg, src: Reg, off: i16) {
        self.load(Size::Half, dst, src, off);
        self.be16(dst);
    }

    /// `*(dst + off) = src`.
    pub fn store(&mut self, size: Size, dst: Reg, off: i16, src: Reg) {
        let code = CLASS_STX | MODE_MEM | size as u8;
        self.push(code, dst as u8 | (src as u8) << 4, off, 0);
    }

    /// `dst = value`, in two instructions.
    pub fn constant(&mut self, dst: Reg, value: u64) {
        self.wide(dst, 0, value as u32, (value >> 32) as u32);
    }

    /// `dst` = the map behind `fd`, as helpers take it.
    pub fn map(&mut self, dst: Reg, fd: BorrowedFd<'_>) {
        self.wide(dst, PSEUDO_MAP_FD, fd.as_raw_fd() as u32, 0);
    }

    /// `dst` = the address of the first value of the array map behind `fd`,
    /// which has one entry.
    pub fn map_value(&mut self, dst: Reg, fd: BorrowedFd<'_>) {
        self.wide(dst, PSEUDO_MAP_VALUE, fd.as_raw_fd() as u32, 0);
    }

    /// Goes to `to`.
    pub fn jump(&mut self, to: Label) {
        self.jumps.push((self.insns.len(), to));
        self.push(CLASS_JMP, 0, 0, 0);
    }

    /// Goes to `to` if `reg COND operand`, on 64 bits.
    pub fn jump_if(&mut self, cond: Cond, reg: Reg, operand: impl Into<Operand>, to: Label) {
        self.jumps.push((self.insns.len(), to));
        self.push_with(CLASS_JMP | cond as u8, reg, 0, operand.into());
    }

    /// Goes to `to` if the low 32 bits of `reg` compare with the constant so.
    pub fn jump_if_u32(&mut self, cond: Cond, reg: Reg, value: u32, to: Label) {
        self.jumps.push((self.insns.len(), to));
        self.push(CLASS_JMP32 | cond as u8, reg as u8, 0, value as i32);
    }

    /// Calls the kernel: `R0 = helper(R1, …)`.
    pub fn call(&mut self, helper: Helper) {
        self.push(CLASS_JMP | OP_CALL, 0, 0, helper as i32);
    }

    /// Returns `R0`.
    pub fn exit(&mut self) {
        self.push(CLASS_JMP | OP_EXIT, 0, 0, 0);
    }

    /// The program, with every jump's distance in place.
    ///
    /// # Errors
    /// A jump whose label has no place or is more than 32767 instructions away.
    pub fn finish(mut self) -> Result<Vec<Insn>, Unreachable> {
        for &(at, label) in &self.jumps {
            let distance = self.places[label.0]
                .and_then(|to| i16::try_from(to as i64 - at as i64 - 1).ok())
                .ok_or(Unreachable { at })?;
            self.insns[at].off = distance;
        }
        Ok(self.insns)
    }

    fn wide(&mut self, dst: Reg, kind: u8, low: u32, high: u32) {
        let code = CLASS_LD | Size::Double as u8;
        self.push(code, dst as u8 | kind << 4, 0, low as i32);
        self.push(0, 0, 0, high as i32);
    }

    fn push_with(&mut self, code: u8, dst: Reg, off: i16, operand: Operand) {
        match operand {
            Operand::Imm(imm) => self.push(code, dst as u8, off, imm),
            Operand::Reg(src) => {
                self.push(code | SOURCE_REG, dst as u8 | (src as u8) << 4, off, 0);
            }
        }
    }

    fn push(&mut self, code: u8, regs: u8, off: i16, imm: i32) {
        self.insns.push(Insn {
            code,
            regs,
            off,
            imm,
        });
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;

    /// The eight bytes of each instruction, as linux/bpf.h lays them out.
    fn bytes(insns: &[Insn]) -> Vec<[u8; 8]> {
        let one = |insn: &Insn| {
            let (off, imm) = (insn.off.to_ne_bytes(), insn.imm.to_ne_bytes());
            let [a, b, c, d] = imm;
            [insn.code, insn.regs, off[0], off[1], a, b, c, d]
        };
        insns.iter().map(one).collect()
    }

    /// What `write` writes.
    fn written(write: impl FnOnce(&mut Asm)) -> Vec<[u8; 8]> {
        let mut asm = Asm::default();
        write(&mut asm);
        bytes(&asm.finish().unwrap())
    }

    #[test]
    #[cfg(target_endian = "little")]
    fn instructions_are_encoded_as_the_kernel_reads_them() {
        use Reg::{R0, R1, R2, R7};
        // From the assembler of clang: llvm-mc -triple bpfel -show-encoding.
        type Write = fn(&mut Asm);
        let table: &[(Write, [u8; 8])] = &[
            (|a| a.mov(R1, R7), [0xbf, 0x71, 0, 0, 0, 0, 0, 0]),
            (|a| a.mov(R0, 2), [0xb7, 0x00, 0, 0, 2, 0, 0, 0]),
            (|a| a.alu(Op::Add, R1, -1), [7, 1, 0, 0, 255, 255, 255, 255]),
            (|a| a.alu(Op::Add, R7, R2), [0x0f, 0x27, 0, 0, 0, 0, 0, 0]),
            (|a| a.alu(Op::Shl, R2, 2), [0x67, 0x02, 0, 0, 2, 0, 0, 0]),
            (|a| a.alu(Op::Shr, R2, 4), [0x77, 0x02, 0, 0, 4, 0, 0, 0]),
            (|a| a.alu(Op::And, R2, 15), [0x57, 0x02, 0, 0, 15, 0, 0, 0]),
            (|a| a.be16(R2), [0xdc, 0x02, 0, 0, 16, 0, 0, 0]),
            (
                |a| a.load(Size::Byte, R2, R7, 9),
                [0x71, 0x72, 9, 0, 0, 0, 0, 0],
            ),
            (
                |a| a.load(Size::Half, R2, R7, -2),
                [0x69, 0x72, 0xfe, 0xff, 0, 0, 0, 0],
            ),
            (
                |a| a.load(Size::Word, R2, R7, 16),
                [0x61, 0x72, 16, 0, 0, 0, 0, 0],
            ),
            (
                |a| a.load(Size::Double, R2, R7, 24),
                [0x79, 0x72, 24, 0, 0, 0, 0, 0],
            ),
            (
                |a| a.store(Size::Double, R1, 8, R2),
                [0x7b, 0x21, 8, 0, 0, 0, 0, 0],
            ),
            (
                |a| a.call(Helper::RedirectMap),
                [0x85, 0, 0, 0, 51, 0, 0, 0],
            ),
            (Asm::exit, [0x95, 0, 0, 0, 0, 0, 0, 0]),
        ];
        for (row, (write, want)) in table.iter().enumerate() {
            assert_eq!(written(write), [*want], "row {row}");
        }
    }

    #[test]
    #[cfg(target_endian = "little")]
    fn wide_constants_and_maps_take_two_instructions() {
        let constant = written(|a| a.constant(Reg::R1, 0x1122_3344_5566_7788));
        let want = [
            [0x18, 1, 0, 0, 0x88, 0x77, 0x66, 0x55],
            [0, 0, 0, 0, 0x44, 0x33, 0x22, 0x11],
        ];
        assert_eq!(constant, want);
        let stdin = std::io::stdin();
        let fd = stdin.as_fd().as_raw_fd() as u8;
        let map = written(|a| a.map(Reg::R1, stdin.as_fd()));
        assert_eq!(map, [[0x18, 0x11, 0, 0, fd, 0, 0, 0], [0; 8]]);
        let value = written(|a| a.map_value(Reg::R1, stdin.as_fd()));
        assert_eq!(value, [[0x18, 0x21, 0, 0, fd, 0, 0, 0], [0; 8]]);
    }

    #[test]
    fn jumps_count_from_the_next_instruction() {
        let mut asm = Asm::default();
        let (start, end) = (asm.label(), asm.label());
        asm.place(start);
        asm.jump_if(Cond::Eq, Reg::R2, 7, end);
        asm.jump_if(Cond::Gt, Reg::R1, Reg::R8, end);
        asm.jump_if_u32(Cond::Eq, Reg::R4, 0xffff_fff0, end);
        asm.jump(start);
        asm.place(end);
        asm.exit();
        let insns = asm.finish().unwrap();
        let offs: Vec<_> = insns.iter().map(|insn| (insn.code, insn.off)).collect();
        let want = [(0x15, 3), (0x2d, 2), (0x16, 1), (0x05, -4), (0x95, 0)];
        assert_eq!(offs, want);
        assert_eq!(insns[2].imm, -16);
    }

    #[test]
    fn a_jump_that_cannot_reach_is_an_error() {
        let mut nowhere = Asm::default();
        let label = nowhere.label();
        nowhere.exit();
        nowhere.jump(label);
        assert!(nowhere.is_used(label));
        assert_eq!(nowhere.finish(), Err(Unreachable { at: 1 }));

        for (between, reaches) in [(32767, true), (32768, false)] {
            let mut far = Asm::default();
            let label = far.label();
            far.jump(label);
            for _ in 0..between {
                far.mov(Reg::R0, 0);
            }
            far.place(label);
            far.exit();
            assert_eq!(far.finish().is_ok(), reaches, "{between}");
        }
    }
}
