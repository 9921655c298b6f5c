//! The model client: the OpenAI Responses API with streaming. Held by the worker alone; its key
//! appears in no history, event, log or executor.

mod answer;
mod client;
mod frames;
mod tools;

pub use answer::{Answer, ModelToolCall, read_answer};
pub use client::{ModelClient, ModelError, Prompt};
pub use frames::Frames;
