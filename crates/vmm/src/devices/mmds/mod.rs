//! The metadata service: a JSON document that a guest reads over HTTP from a link-local address, which no host's network ever sees.
//!
//! The network card hands frames for that address to a [`Service`], one per card, and takes its frames for the guest. All services of a
//! machine share one [`Store`], which the API writes. Lock order: a virtio transport, then the store.
mod http;
mod service;
mod store;
mod tokens;

pub use service::{ENOUGH, Service};
pub(crate) use store::DEFAULT_ADDRESS;
pub use store::{Store, StoreError, Version};
