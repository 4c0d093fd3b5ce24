// The six stages of the chosen word.
function attended(found, tokens, position) {
    return bars(
        found.links.map((link) => [
            make("span", { class: "word" }, `${visible(tokens[link.key].label)} · ${link.key}`),
            link.weight,
            number(
                link.weight,
                cell(found.address, ["head", link.head], ["query", position], ["key", link.key]),
            ),
            " ",
            say("by_head", { head: link.head }),
        ]),
    );
}
function stages() {
    const one = shown[state.word],
        p = one.from,
        layer = one.layers[state.layer];
    const token = data.tokens[p],
        next = data.tokens[one.position];
    const quoted = visible(next && (next.chosen || data.kind === "encoder") ? next.label : "?");
    fill(
        "h-word",
        data.kind === "encoder"
            ? say("word_encoder", { token: quoted, position: one.position })
            : say("word", { token: quoted, position: one.position }),
    );
    fill(
        "word-note",
        data.words.every > shown.length
            ? say("words_some", { n: shown.length, every: data.words.every })
            : "",
    );
    const none = () => [paragraph(say("no_layers"), "note")];
    fill(
        "stage-1",
        paragraph(say("input", { token: visible(token.label), position: p, id: token.id })),
        ...(one.input.length
            ? one.input.flatMap((found, at) =>
                  named(
                      at === one.input.length - 1
                          ? say("enters")
                          : found.address.endsWith("tokens")
                            ? say("from_tokens")
                            : found.address.endsWith("segments")
                              ? say("from_segments")
                              : say("from_positions"),
                      found,
                      p,
                  ),
              )
            : none()),
    );
    for (const id of ["stage-2", "stage-3", "stage-4", "stage-5"]) fill(id, ...none());
    if (layer) {
        const crossed = layer.cross
            ? [
                  make("h4", {}, say("cross")),
                  attended(layer.cross, data.sources, p),
                  ...named(say("cross_wrote"), layer.cross.wrote, p),
              ]
            : [];
        fill(
            "stage-2",
            make("h4", {}, say("looks_at", { layer: state.layer })),
            attended(layer.attention, data.tokens, p),
            ...named(say("attention_wrote"), layer.attention.wrote, p),
            ...crossed,
        );
        fill(
            "stage-3",
            ...named(say("before"), layer.before, p),
            ...named(say("sum"), layer.attention.sum, p),
            ...(layer.cross ? named(say("cross_sum"), layer.cross.sum, p) : []),
            ...named(say("normed"), layer.read, p),
        );
        const units = layer.units
            ? [
                  make(
                      "h4",
                      {},
                      say("units", { n: layer.units.size }),
                      " ",
                      make("span", { class: "address note" }, layer.units.address),
                  ),
                  bars(
                      layer.units.strongest.map((unit) => [
                          make("span", {}, `#${unit.at}`),
                          Math.abs(unit.value) /
                              Math.max(1e-30, Math.abs(layer.units.strongest[0].value)),
                          number(
                              unit.value,
                              cell(layer.units.address, ["position", p], ["hidden", unit.at]),
                          ),
                      ]),
                  ),
              ]
            : [];
        fill(
            "stage-4",
            ...units,
            ...named(say("feedforward_wrote"), layer.wrote, p),
            ...named(say("after"), layer.after, p),
        );
        fill("stage-5", ...named(say("output"), one.output, p));
    }
    fill(
        "stage-6",
        ...(one.choice ? choice(one, one.choice) : [paragraph(say("no_logits"), "note")]),
    );
}
function choice(one, found) {
    const reasons = {
        impossible: say("reason_impossible"),
        suppressed: say("reason_suppressed"),
        forced: say("reason_forced"),
        top_k: "top-k",
        top_p: "top-p",
        min_p: "min-p",
    };
    const site =
        found.mode === "filled" ? ["head.logits", one.from] : ["sampling.logits", one.position];
    const at = (noun, id) => cell(`sampling.${noun}`, ["position", one.position], ["word", id]);
    const drawn = found.mode === "drawn";
    const heads = [
        [say("candidate"), null],
        [say("plain"), null],
        ["", "n"],
        ["logit", "n"],
        ...(drawn
            ? [
                  [say("scaled"), "n"],
                  [say("final"), "n"],
              ]
            : []),
    ];
    const rows = found.candidates.map((candidate) =>
        make(
            "tr",
            { class: candidate.id === found.id ? "chosen here" : null },
            make(
                "td",
                {},
                word(candidate.label),
                " ",
                make("span", { class: "note" }, `#${candidate.id}`),
            ),
            make("td", {}, bar(candidate.plain)),
            make("td", { class: "n" }, percent(candidate.plain)),
            make(
                "td",
                { class: "n" },
                number(
                    candidate.logit,
                    cell(site[0], ["position", site[1]], ["word", candidate.id]),
                ),
            ),
            ...(drawn
                ? [
                      make(
                          "td",
                          { class: candidate.cut ? "n cut" : "n" },
                          number(candidate.scaled, at("scaled", candidate.id)),
                      ),
                      make(
                          "td",
                          { class: "n" },
                          candidate.cut
                              ? say("cut_by", { value: reasons[candidate.cut] })
                              : number(candidate.final, at("probabilities", candidate.id)),
                      ),
                  ]
                : []),
        ),
    );
    rows.push(
        make(
            "tr",
            {},
            make("td", { class: "note" }, say("others", { n: found.others })),
            make("td", {}, bar(found.others_plain)),
            make("td", { class: "n" }, percent(found.others_plain)),
            make("td"),
            ...(drawn ? [make("td"), make("td")] : []),
        ),
    );
    const lines = [make("div", { class: "scroll" }, make("table", {}, ...table(heads, rows)))];
    const token = found.mode === "filled" ? "" : visible(data.tokens[one.position].label);
    if (found.mode === "filled") lines.push(paragraph(say("filled")));
    if (found.changed) lines.push(paragraph(say("changed", { n: found.changed })));
    if (found.mode === "forced") lines.push(paragraph(say("forced", { token })));
    if (found.mode === "beam") lines.push(paragraph(say("beam", { token })));
    if (found.mode === "greedy") lines.push(paragraph(say("greedy", { token, id: found.id })));
    if (drawn) {
        lines.push(paragraph(say("temperature", { value: found.temperature })));
        lines.push(
            ...found.cuts.map(([reason, n]) =>
                paragraph(say("cut", { value: reasons[reason], n })),
            ),
        );
        lines.push(paragraph(say("kept", { n: found.kept })));
        const [low, high] = [found.low, found.high].map((value) => value.toFixed(6));
        lines.push(
            make(
                "p",
                {},
                say("draw"),
                " ",
                number(found.draw, cell("sampling.draw", ["position", one.position])),
                comma(),
                say("falls", { low, high, token }),
            ),
        );
    }
    return lines;
}
