//! Machines and plans, and what is to be found in each.
