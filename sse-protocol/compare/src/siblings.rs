//! More streams, each a variation of one in `benches/shapes`: other lengths, other cuttings, other fields.

use crate::contestants::shapes::{
    FOREIGN_WORDS, KIB, Shape, WORDS, comments, huge_lines, shape, token_stream,
};

pub(crate) fn siblings() -> Vec<Shape> {
    let tokens = || token_stream(&WORDS, 1_000);
    let crlf = |stream: String| stream.replace('\n', "\r\n");
    let tiny = || "data: x\n\n".repeat(20_000);
    vec![
        shape("tokens_3_byte_chunks", tokens(), 3),
        shape("tokens_7_byte_chunks", tokens(), 7),
        shape("tokens_32_byte_chunks", tokens(), 32),
        shape("tokens_64_byte_chunks", tokens(), 64),
        shape("tokens_256_byte_chunks", tokens(), 256),
        shape(
            "non_ascii_16_byte_chunks",
            token_stream(&FOREIGN_WORDS, 1_000),
            16,
        ),
        shape("tiny_events_16_byte_chunks", tiny(), 16),
        shape("short_fields", short_fields(), 16 * KIB),
        shape("short_fields_16_byte_chunks", short_fields(), 16),
        shape("many_ids", many_ids(), 16 * KIB),
        shape("many_ids_16_byte_chunks", many_ids(), 16),
        shape(
            "comments_empty",
            ":\n\n".repeat(50_000) + "data: end\n\n",
            16 * KIB,
        ),
        shape("comments_1", comments("x", 50_000), 16 * KIB),
        shape("comments_100", comments(&"x".repeat(100), 10_000), 16 * KIB),
        shape(
            "comments_10000",
            comments(&"x".repeat(10_000), 100),
            16 * KIB,
        ),
        shape(
            "comments_16_byte_chunks",
            comments("keep-alive", 10_000),
            16,
        ),
        shape("comments_1_byte_chunks", comments("keep-alive", 2_000), 1),
        shape(
            "comments_in_a_row",
            ": keep-alive\n".repeat(50_000) + "data: end\n\n",
            16 * KIB,
        ),
        shape(
            "comments_between_events",
            ": keep-alive\n\ndata: some short event\n\n".repeat(10_000),
            16 * KIB,
        ),
        shape(
            "comments_crlf",
            crlf(comments("keep-alive", 50_000)),
            16 * KIB,
        ),
        shape(
            "unknown_fields",
            "time: 1717171717\nlevel: info\nuser: 42\ndata: some short event\n\n".repeat(10_000),
            16 * KIB,
        ),
        shape(
            "line_4k_16k_chunks",
            huge_lines(4 * KIB).repeat(16),
            16 * KIB,
        ),
        shape("line_4k_whole", huge_lines(4 * KIB).repeat(16), 256 * KIB),
        shape("line_64k_1400_chunks", huge_lines(64 * KIB), 1400),
        shape("line_1m_16k_chunks", huge_lines(KIB * KIB), 16 * KIB),
        shape("line_1m_whole", huge_lines(KIB * KIB), 4 * KIB * KIB),
        shape("line_64k_16_byte_chunks", huge_lines(64 * KIB), 16),
        shape("crlf_tokens_16k_chunks", crlf(tokens()), 16 * KIB),
        shape("crlf_tokens_1400_chunks", crlf(tokens()), 1400),
        shape("crlf_tokens_16_byte_chunks", crlf(tokens()), 16),
        shape("crlf_tiny_events", crlf(tiny()), 16 * KIB),
        shape(
            "no_space_tokens",
            tokens().replace("data: ", "data:"),
            16 * KIB,
        ),
        shape("no_space_tiny_events", tiny().replace(": ", ":"), 16 * KIB),
        shape(
            "byte_order_mark",
            format!("\u{FEFF}{}", token_stream(&WORDS, 10)),
            16 * KIB,
        ),
    ]
}

/// Every field the standard knows, each with a short value.
fn short_fields() -> String {
    "id: 7\nevent: a\nretry: 10\ndata: x\ndata: y\n\n".repeat(5_000)
}

/// Short events with ids as long as a UUID.
fn many_ids() -> String {
    (0..5_000)
        .map(|i| format!("id: 0192f1a4-7c1e-7cc3-98c4-{i:012x}\ndata: some short event\n\n"))
        .collect()
}
