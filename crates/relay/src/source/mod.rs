//! Where changes come from: each source turns its world into changes of the model and knows
//! nothing of SDKs, servers or stores. A process runs one.

pub mod upstream;
