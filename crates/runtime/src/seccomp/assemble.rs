//! An assembler for classic BPF that writes from the last instruction to the
//! first, so that every jump's distance is known when it is written. It must
//! not know seccomp.
//!
//! A conditional jump reaches 255 instructions; farther targets get a jump of
//! their own (a trampoline), or, where they only end the program, a copy.

use std::collections::HashMap;

use conex_sys::seccomp::{Instruction, JA, JGE, LD_ABS, Program, RET};

/// How far a conditional jump reaches, in instructions.
const REACH: usize = u8::MAX as usize;

/// A written instruction, counted from the end of the program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Label(usize);

/// Where control goes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Target {
    /// To an instruction.
    At(Label),
    /// Out, with this answer.
    Return(u32),
}

/// A program in the making.
#[derive(Debug, Default)]
pub(super) struct Assembler {
    /// Last instruction first.
    reversed: Vec<Instruction>,
    /// The nearest return of each answer.
    returns: HashMap<u32, Label>,
}

impl Assembler {
    /// Loads a word of the data, then goes on at `next`.
    pub(super) fn load(&mut self, offset: u32, next: Target) -> Target {
        self.then(LD_ABS, offset, next)
    }

    /// Does one operation, then goes on at `next`.
    pub(super) fn then(&mut self, code: u16, k: u32, next: Target) -> Target {
        // What a load or an and leaves behind is not seen by a return.
        let Target::At(label) = next else {
            return next;
        };
        if self.distance(label) > 0 {
            self.trampoline(label);
        }
        Target::At(self.push(code, 0, 0, k))
    }

    /// Goes on at `yes` where the condition holds, else at `no`.
    pub(super) fn branch(&mut self, code: u16, k: u32, yes: Target, no: Target) -> Target {
        if yes == no {
            return yes;
        }
        // Written first: both may add an instruction, and distances grow by it.
        let mut no = self.settle(no);
        let mut yes = self.settle(yes);
        loop {
            if self.distance(yes) > REACH {
                yes = self.trampoline(yes);
            } else if self.distance(no) > REACH {
                no = self.trampoline(no);
            } else {
                break;
            }
        }
        let (jt, jf) = (self.distance(yes) as u8, self.distance(no) as u8);
        Target::At(self.push(code, jt, jf, k))
    }

    /// Goes on by the range the accumulator is in.
    ///
    /// Ranges are given by their first value, ascending, from zero.
    pub(super) fn search(&mut self, ranges: &[(u32, Target)]) -> Target {
        debug_assert!(ranges.first().is_some_and(|(first, _)| *first == 0));
        self.search_within(ranges)
    }

    fn search_within(&mut self, ranges: &[(u32, Target)]) -> Target {
        if let [(_, target)] = ranges {
            return *target;
        }
        let (below, above) = ranges.split_at(ranges.len() / 2);
        let (no, yes) = (self.search_within(below), self.search_within(above));
        self.branch(JGE, above[0].0, yes, no)
    }

    /// The program that starts at `entry`.
    pub(super) fn finish(mut self, entry: Target) -> Program {
        let entry = self.settle(entry);
        if self.distance(entry) > 0 {
            self.trampoline(entry);
        }
        self.reversed.reverse();
        Program(self.reversed)
    }

    fn push(&mut self, code: u16, jt: u8, jf: u8, k: u32) -> Label {
        self.reversed.push(Instruction { code, jt, jf, k });
        Label(self.reversed.len() - 1)
    }

    /// Instructions that one written now would skip to get there.
    fn distance(&self, label: Label) -> usize {
        self.reversed.len() - 1 - label.0
    }

    fn trampoline(&mut self, label: Label) -> Label {
        let distance = self.distance(label) as u32;
        self.push(JA, 0, 0, distance)
    }

    fn settle(&mut self, target: Target) -> Label {
        match target {
            Target::At(label) => label,
            Target::Return(answer) => match self.returns.get(&answer) {
                Some(&label) if self.distance(label) < REACH => label,
                _ => {
                    let label = self.push(RET, 0, 0, answer);
                    self.returns.insert(answer, label);
                    label
                }
            },
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use conex_sys::seccomp::{Data, JEQ, OFFSET_NR, evaluate};

    use super::*;

    fn ask(program: &Program, nr: u32) -> u32 {
        let data = Data {
            nr,
            ..Data::default()
        };
        evaluate(program, &data).unwrap()
    }

    #[test]
    fn a_constant_program_is_one_instruction() {
        let program = Assembler::default().finish(Target::Return(7));
        assert_eq!(program.len(), 1);
        assert_eq!(ask(&program, 1), 7);
    }

    #[test]
    fn every_range_of_a_search_far_beyond_a_jump_is_reached() {
        let mut assembler = Assembler::default();
        let ranges: Vec<_> = (0..1500u32)
            .map(|index| (index * 3, Target::Return(index + 1)))
            .collect();
        let search = assembler.search(&ranges);
        let entry = assembler.load(OFFSET_NR, search);
        let program = assembler.finish(entry);
        assert!(program.len() > 3000, "{}", program.len());
        for nr in 0..4500 {
            assert_eq!(ask(&program, nr), nr / 3 + 1, "{nr}");
        }
        assert_eq!(ask(&program, u32::MAX), 1500);
    }

    #[test]
    fn a_branch_at_the_edge_of_its_reach_still_arrives() {
        for padding in 250..262 {
            let mut assembler = Assembler::default();
            let far = assembler.branch(JEQ, 5, Target::Return(50), Target::Return(51));
            let mut chain = Target::Return(52);
            for k in 0..padding {
                chain = assembler.branch(JEQ, 1000 + k, Target::Return(60 + k), chain);
            }
            let both_far = assembler.branch(JEQ, 5, far, chain);
            let near = assembler.branch(JEQ, 9, Target::Return(90), both_far);
            let entry = assembler.load(OFFSET_NR, near);
            let program = assembler.finish(entry);
            assert_eq!(ask(&program, 5), 50, "{padding}");
            assert_eq!(ask(&program, 9), 90, "{padding}");
            assert_eq!(ask(&program, 7), 52, "{padding}");
            assert_eq!(ask(&program, 1000), 60, "{padding}");
        }
    }
}
