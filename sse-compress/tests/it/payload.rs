//! Texts like those that applications send. Made from a seed, so that a failure can be repeated.

/// A small generator (xorshift), so that the texts do not change with a library's version.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    pub(crate) fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }
}

const WORDS: &str = "about above accuracy across after again against algorithm although always among another answer \
    appear apply approach architecture argue around attention audience available average because become before begin \
    behind benefit better between beyond budget build camera careful carry cause century certain challenge change channel \
    chapter choose claim classic clear climate collect common company compare complex computer concept conclude condition \
    consider contain context continue control cost could course create critical culture current data debate decade decide \
    deep define degree depend describe design detail develop device differ discover discuss distance during early economy \
    effect effort either enough entire error especially estimate even every evidence example except expect experience \
    explain explore express extend factor familiar feature figure final first focus follow force forget form found frame \
    function further future gather general generation global government gradient group growth happen history however human \
    idea imagine impact improve include increase industry influence inside instead interest interview introduce issue \
    journey keep kernel know knowledge language large later learn lesson level light likely limit listen local machine \
    major manage market matter measure memory mention method million minute model modern moment morning most move music \
    nature near network never normal notice number object observe obvious offer often open opinion order original other \
    outside over paper part particular pattern perform perhaps period person picture place point policy popular possible \
    power practice predict present pressure problem process produce program project promise prove public purpose quality \
    question quickly reach reader reason recent record reduce region relate remain remember repeat report require research \
    resource response result return reveal risk science season second section sense series serious several shape should \
    similar simple since single situation small society solution sometimes source speaker special speech spend standard \
    start state step story strategy stream structure student study subject success suggest summary support surface survey \
    system teach technology tend theory thing think thousand through time together token tool topic toward tradition train \
    transcript transform travel trust turn typical under understand until useful usual value various version video viewer \
    visit voice wait watch water weight whether while without wonder word work world would write year young";

/// English-like prose: common words are common, as in speech.
pub(crate) fn prose(random: &mut Random, bytes: usize) -> String {
    const GLUE: &[&str] = &[
        "the", "of", "and", "a", "to", "in", "is", "that", "it", "for", "as", "with", "on", "this",
        "are",
    ];
    let words: Vec<&str> = WORDS.split_whitespace().collect();
    let mut text = String::new();
    let mut in_sentence = 0;
    while text.len() < bytes {
        let word = if random.below(5) < 2 {
            GLUE[random.below(GLUE.len())]
        } else {
            words[random.below(words.len())]
        };
        text.push_str(word);
        in_sentence += 1;
        if in_sentence > 8 && random.below(6) == 0 {
            text.push_str(". ");
            in_sentence = 0;
        } else {
            text.push(' ');
        }
    }
    text.truncate(bytes);
    text
}

/// A finished summary of a video, of about `bytes`.
pub(crate) fn summary(seed: u64, bytes: usize) -> String {
    let mut random = Random::new(seed);
    let id = random.next();
    let title = prose(&mut random, 40);
    let text = prose(&mut random, bytes.saturating_sub(220));
    format!(
        r#"{{"video_id":"{id:011x}","title":"{title}","source":"generated","model_used":"gpt-4o","playlist":"Lectures {}","duration_seconds":{},"summary":"{text}","timestamp":"2025-08-14T10:30:{:02}Z"}}"#,
        random.below(100),
        random.below(7200),
        random.below(60),
    )
}

/// A list of jobs with their states, of about `bytes`: many objects of one shape.
pub(crate) fn job_list(seed: u64, bytes: usize) -> String {
    let mut random = Random::new(seed);
    let mut text = String::from("[");
    while text.len() < bytes {
        let state = ["pending", "in_progress", "completed", "error"][random.below(4)];
        let name = prose(&mut random, 24);
        text.push_str(&format!(
            r#"{{"job_id":"{:016x}","status":"{state}","progress":{},"total":100,"message":"Processing: {name}","current_video":{{"id":"{:011x}","title":"{name}"}}}},"#,
            random.next(),
            random.below(100),
            random.next() >> 20,
        ));
    }
    text.push_str("{}]");
    text
}

/// One event as it goes over the wire.
pub(crate) fn event(number: u64) -> String {
    let mut random = Random::new(number);
    format!(
        "id: 7f3a-{number}\nevent: summary_progress\ndata: {{\"status\":\"processing\",\"message\":\"Processing: \
         {}\",\"progress\":{},\"total\":1000}}\n\n",
        prose(&mut random, 20),
        number % 1000,
    )
}

/// What a model says, token by token, as its API has it.
pub(crate) fn token(number: u64) -> String {
    let mut random = Random::new(number / 400);
    let id = random.next();
    let mut random = Random::new(number);
    let words: Vec<&str> = WORDS.split_whitespace().collect();
    format!(
        "id: 7f3a-{number}\ndata: {{\"id\":\"chatcmpl-{id:016x}\",\"object\":\"chat.completion.chunk\",\"created\":1677649420,\
         \"model\":\"m-large\",\"choices\":[{{\"index\":0,\"delta\":{{\"content\":\" {}\"}},\"finish_reason\":null}}]}}\n\n",
        words[random.below(words.len())],
    )
}

/// Text that no coding makes smaller.
pub(crate) fn noise(seed: u64, bytes: usize) -> String {
    let mut random = Random::new(seed);
    // One of 64 characters holds 6 bits, of which gzip and base64 together can win nothing.
    let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    (0..bytes)
        .map(|_| char::from(alphabet[random.below(64)]))
        .collect()
}
