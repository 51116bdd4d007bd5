//! getrandom(2).

use rustix::rand::{GetRandomFlags, getrandom};

use crate::dice::Dice;

pub(crate) struct RealDice;

impl Dice for RealDice {
    fn fill(&self, bytes: &mut [u8]) {
        let mut done = 0;
        while done < bytes.len() {
            match getrandom(&mut bytes[done..], GetRandomFlags::empty()) {
                Ok(count) => done += count,
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => panic!("getrandom failed: {error}"),
            }
        }
    }
}
