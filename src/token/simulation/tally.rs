//! What happened in the lives, counted: a simulation in which nothing goes wrong proves nothing.

use std::ops::AddAssign;

macro_rules! tally {
    ($($fact:ident),*) => {
        /// How often what happened.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub(super) struct Tally { $(pub(super) $fact: u64),* }

        impl Tally {
            pub(super) fn facts(&self) -> Vec<(&'static str, u64)> {
                vec![$((stringify!($fact), self.$fact)),*]
            }
        }

        impl AddAssign for Tally {
            fn add_assign(&mut self, other: Self) {
                $(self.$fact += other.$fact;)*
            }
        }
    };
}

tally!(
    calls,
    observations,
    waits,
    restored,
    restarts,
    logins,
    rotations,
    held,
    odd,
    unwritten,
    lost_answers,
    suspends,
    wall_steps,
    renewals_asked,
    wakes,
    storms
);
