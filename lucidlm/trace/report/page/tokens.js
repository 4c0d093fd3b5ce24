// The text, token by token.
function ribbon(id, tokens, lead) {
    const surprises = new Map(data.surprise.map((one) => [one.predicts, one.surprise]));
    const most = Math.max(1, ...data.surprise.map((one) => one.surprise || 0));
    const about = new Map(shown.map((one, index) => [one.position, index]));
    fill(
        id,
        tokens.length ? make("span", { class: "lead" }, lead) : null,
        ...tokens.map((token, position) => {
            const index = id === "tokens" ? about.get(position) : undefined;
            const surprise = id === "tokens" ? surprises.get(position) : undefined;
            const title = say("token_title", { position, id: token.id, value: token.bytes || "–" });
            const inside = [visible(token.label), make("small", {}, String(token.id))];
            const options = {
                class: token.chosen ? "token chosen" : "token",
                title,
                style: surprise ? { "--tint": surprise / most } : {},
            };
            if (index === undefined) return make("span", options, ...inside);
            return make(
                "button",
                {
                    ...options,
                    type: "button",
                    "aria-pressed": String(index === state.word),
                    on: { click: () => select({ word: index }) },
                },
                ...inside,
            );
        }),
    );
}
function text() {
    ribbon("sources", data.sources, say("source"));
    ribbon("tokens", data.tokens, data.sources.length ? say("target") : "");
    fill("text-note", data.kind === "encoder" ? say("tokens_note_encoder") : say("tokens_note"));
    const by = new Map(data.surprise.map((one) => [one.predicts, one]));
    const rows = data.tokens.map((token, position) =>
        make(
            "tr",
            { class: token.chosen ? "chosen" : null },
            make("td", { class: "n" }, String(position)),
            make("td", {}, word(token.label)),
            make("td", { class: "n" }, String(token.id)),
            make("td", {}, make("code", {}, token.bytes)),
            make(
                "td",
                {},
                {
                    encode: say("phase_encode"),
                    prefill: say("phase_prefill"),
                    decode: say("phase_decode"),
                }[token.phase],
            ),
            make("td", { class: "n" }, format(by.get(position)?.surprise)),
            make("td", { class: "n" }, format(by.get(position)?.entropy)),
        ),
    );
    fill(
        "token-table",
        ...table(
            [
                [say("position"), "n"],
                [say("token"), null],
                [say("id"), "n"],
                [say("bytes"), null],
                [say("phase"), null],
                [say("surprise"), "n"],
                [say("entropy"), "n"],
            ],
            rows,
        ),
    );
}
