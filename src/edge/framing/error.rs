//! Reasons why the framing of a request is refused: one row each.
//!
//! Owns: the word of a reason, its HTTP status and its meaning. The metric, the response and the table in
//! `docs/operations.md` use these rows. Never: the check itself.

/// Declares the reasons, so that everything about one reason is in one row.
macro_rules! framing_errors {
    ($($name:ident $word:literal $status:literal, $meaning:literal;)*) => {
        /// The reason why a request is refused. Its word is for programs, and stable.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum FramingError {
            $(#[doc = concat!("`", $word, "`: ", $meaning, ".")] $name,)*
        }

        impl FramingError {
            /// All reasons, in the order of the documentation.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// Returns the stable word of the reason.
            pub const fn word(self) -> &'static str {
                match self { $(Self::$name => $word,)* }
            }

            /// Returns the HTTP status of the response.
            pub const fn status(self) -> u16 {
                match self { $(Self::$name => $status,)* }
            }

            /// Returns the meaning, for people.
            pub const fn meaning(self) -> &'static str {
                match self { $(Self::$name => $meaning,)* }
            }
        }
    };
}

framing_errors! {
    BareLf "bare_lf" 400, "a line ends with LF alone";
    BareCr "bare_cr" 400, "CR without LF";
    ControlCharacter "control_character" 400, "NUL or another control character";
    HeadTooLarge "head_too_large" 431, "the request head is longer than `limits.max_header_bytes`";
    RequestLine "request_line" 400, "not exactly a method, one space, a target, one space and a version";
    Method "method" 400, "the method is not a token";
    Connect "connect" 501, "the method CONNECT";
    Target "target" 400, "the target is no path, no http URL, and not `*` of OPTIONS, or has a forbidden character";
    Version "version" 505, "an HTTP version other than 1.0 and 1.1";
    FoldedLine "folded_line" 400, "a field line begins with a space or tab";
    FieldLine "field_line" 400, "a field line without a colon";
    FieldName "field_name" 400, "an empty field name, or one with a forbidden character";
    SpaceBeforeColon "space_before_colon" 400, "a space or tab between field name and colon";
    HostMissing "host_missing" 400, "HTTP/1.1 without Host";
    HostTwice "host_twice" 400, "more than one Host";
    HostInvalid "host_invalid" 400, "Host is not a host name or address with an optional port";
    HostMismatch "host_mismatch" 400, "the URL in the request line names another host than Host";
    ContentTypeTwice "content_type_twice" 400, "more than one Content-Type";
    LengthTwice "length_twice" 400, "more than one Content-Length";
    LengthInvalid "length_invalid" 400, "Content-Length is not one decimal number below 2^63";
    LengthAndChunks "length_and_chunks" 400, "Content-Length beside Transfer-Encoding";
    TransferEncodingTwice "transfer_encoding_twice" 400, "more than one Transfer-Encoding";
    TransferEncodingUnknown "transfer_encoding_unknown" 501, "a Transfer-Encoding other than `chunked`";
    TransferEncodingVersion "transfer_encoding_version" 400, "Transfer-Encoding in HTTP/1.0";
    ChunkSize "chunk_size" 400, "a chunk size is not a hexadecimal number of at most 15 digits";
    ChunkExtension "chunk_extension" 400, "a chunk extension is too long or has a forbidden character";
    ChunkEnd "chunk_end" 400, "a chunk is not followed by CR LF";
    TrailerField "trailer_field" 400, "a trailer field that only a request head may have";
    TrailersTooLarge "trailers_too_large" 431, "the trailer fields are longer than `limits.max_header_bytes`";
}

/// A refusal of the bytes of a connection from some position on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FramingRefusal {
    /// Why they are refused.
    pub reason: FramingError,
    /// Whether the position is in a body. The head before it was in order, so its request has a response of its own.
    pub is_in_body: bool,
}
