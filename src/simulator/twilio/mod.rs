//! Twilio.
mod signature;
mod twiml;
