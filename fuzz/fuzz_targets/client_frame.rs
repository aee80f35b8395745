//! Any text: parsing never panics, and an accepted id is valid JSON.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pagewire::protocol::{ClientFrame, FrameBody, Hello};

fuzz_target!(|text: &str| {
    let _ = Hello::parse(text);
    let id = match ClientFrame::parse(text) {
        Ok((_, id)) => id,
        Err(refused) => {
            let tail = FrameBody::error(refused.id.as_ref(), &refused.error);
            assert_eq!(tail.bytes().last(), Some(&b'}'));
            refused.id
        }
    };
    if let Some(id) = id {
        assert!(id.json().len() <= 130);
        let tail = FrameBody::result(&id, None);
        assert!(tail.bytes().ends_with(b"}"));
    }
});
