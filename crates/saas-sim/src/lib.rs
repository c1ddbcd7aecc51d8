//! Simulator of Harness SaaS.
