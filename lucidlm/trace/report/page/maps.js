// Attention patterns as pictures.
const STOPS = [
    [0, 34, 78],
    [18, 53, 112],
    [59, 73, 108],
    [87, 93, 109],
    [112, 113, 115],
    [138, 134, 120],
    [165, 156, 116],
    [195, 179, 105],
    [225, 204, 85],
    [254, 232, 56],
];
function colour(step) {
    // the root, so that small weights are seen beside the first token's
    const place = Math.sqrt(step / (data.maps.steps - 1)) * (STOPS.length - 1),
        low = Math.min(STOPS.length - 2, Math.floor(place));
    return STOPS[low].map((from, i) => from + (STOPS[low + 1][i] - from) * (place - low));
}
async function unpacked(at) {
    if (!bytes.has(at)) {
        const packed = Uint8Array.from(atob(data.maps.shown[at].data), (letter) =>
            letter.charCodeAt(0),
        );
        const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate"));
        bytes.set(at, new Uint8Array(await new Response(stream).arrayBuffer()));
    }
    return bytes.get(at);
}
const hidden = (map, q, k) =>
    map.mask === "causal" ? k > q : map.mask === "strict" ? k >= q : false;
async function picture() {
    $("maps-section").hidden = !data.maps.every;
    if (!data.maps.every) return;
    fill(
        "maps-note",
        say("maps_note", {
            n: data.maps.shown.length,
            every: data.maps.every,
            value: data.maps.steps,
        }),
    );
    if (!data.maps.shown.length) return;
    const chosen = state.map,
        map = data.maps.shown[chosen],
        [heads, T, S] = map.shape,
        head = Math.min(state.head, heads - 1);
    const reports = data.heads.filter((one) => one.address === map.address);
    fill(
        "map",
        ...data.maps.shown.map((one, at) =>
            make(
                "option",
                { value: at, selected: at === state.map },
                one.address.replace(".pattern", ""),
            ),
        ),
    );
    fill(
        "head",
        ...Array.from({ length: heads }, (_, h) =>
            make(
                "option",
                { value: h, selected: h === head },
                [
                    String(h),
                    ...(reports[h]?.tags || []).map((tag) => data.tags[tag][state.lang][0]),
                ].join(" · "),
            ),
        ),
    );
    const report = reports[head];
    fill(
        "head-note",
        ...(report
            ? [
                  say("head_entropy", { value: format(report.entropy) }),
                  ...report.tags.map(
                      (tag) =>
                          ` ${data.tags[tag][state.lang].join(state.lang === "zh" ? "：" : ": ")}`,
                  ),
              ]
            : []),
    );
    const values = (await unpacked(chosen)).subarray(head * T * S, (head + 1) * T * S);
    if (chosen !== state.map) return;
    const room = Math.max(160, Math.min(640, $("picture").clientWidth - 90)),
        size = Math.max(1, Math.min(28, Math.floor(room / Math.max(T, S))));
    const canvas = make("canvas", {
        width: S,
        height: T,
        tabindex: 0,
        role: "img",
        "aria-label": say("map_label", { place: map.address, head }),
        "aria-describedby": "readout",
        style: { width: `${S * size}px`, height: `${T * size}px` },
    });
    const image = new ImageData(S, T);
    for (let at = 0; at < T * S; at++)
        image.data.set(
            [...colour(values[at]), hidden(map, Math.floor(at / S), at % S) ? 0 : 255],
            4 * at,
        );
    canvas.getContext("2d").putImageData(image, 0, 0);
    const mark = make("span", { class: "mark", hidden: true });
    const queries = data[map.queries],
        keys = data[map.keys],
        labelled = size >= 13;
    const label = (token, at) => make("span", {}, `${visible(token.label)} ${at}`);
    const point = (q, k) => {
        [state.query, state.key] = [q, k];
        const address = cell(map.address, ["head", head], ["query", q], ["key", k]),
            step = values[q * S + k];
        Object.assign(mark.style, {
            left: `${k * size - 2}px`,
            top: `${q * size - 2}px`,
            width: `${size + 4}px`,
            height: `${size + 4}px`,
        });
        mark.hidden = false;
        const value = hidden(map, q, k)
            ? say("masked")
            : `≈ ${(step / (data.maps.steps - 1)).toFixed(3)}`;
        fill(
            "readout",
            say("pointed", {
                token: visible(queries[q].label),
                position: q,
                place: `${visible(keys[k].label)} (${k})`,
            }),
            " ",
            make("strong", {}, value),
            " ",
            address in data.cards ? number(say("why"), address) : "",
        );
        const best = Array.from({ length: S }, (_, s) => s)
            .filter((s) => values[q * S + s] > 0)
            .sort((a, b) => values[q * S + b] - values[q * S + a])
            .slice(0, 8);
        fill(
            "row",
            bars(
                best.map((s) => [
                    make("span", { class: "word" }, `${visible(keys[s].label)} · ${s}`),
                    values[q * S + s] / (data.maps.steps - 1),
                    `≈ ${(values[q * S + s] / (data.maps.steps - 1)).toFixed(3)}`,
                ]),
            ),
        );
    };
    const place = (event) => [
        Math.min(T - 1, Math.max(0, Math.floor(event.offsetY / size))),
        Math.min(S - 1, Math.max(0, Math.floor(event.offsetX / size))),
    ];
    canvas.addEventListener("mousemove", (event) => point(...place(event)));
    canvas.addEventListener("click", (event) => {
        point(...place(event));
        const address = cell(
            map.address,
            ["head", head],
            ["query", state.query],
            ["key", state.key],
        );
        if (address in data.cards) openCard(address);
    });
    canvas.addEventListener("keydown", (event) => {
        const step = {
            ArrowUp: [-1, 0],
            ArrowDown: [1, 0],
            ArrowLeft: [0, -1],
            ArrowRight: [0, 1],
        }[event.key];
        if (!step) return;
        event.preventDefault();
        point(
            Math.min(T - 1, Math.max(0, (state.query ?? 0) + step[0])),
            Math.min(S - 1, Math.max(0, (state.key ?? 0) + step[1])),
        );
    });
    fill(
        "picture",
        make("div", { class: "legend" }, "0", make("i"), "1", make("span", {}, say("legend"))),
        make(
            "div",
            { class: "map" },
            make(
                "div",
                { class: "down", style: { "grid-auto-rows": `${size}px` } },
                ...(labelled ? queries.slice(0, T).map(label) : []),
            ),
            make(
                "div",
                { class: "field", style: { width: `${S * size}px`, height: `${T * size}px` } },
                canvas,
                mark,
            ),
            make(
                "div",
                { class: "across", style: { "grid-auto-columns": `${size}px` } },
                ...(labelled ? keys.slice(0, S).map(label) : []),
            ),
        ),
    );
    point(Math.min(T - 1, state.query ?? T - 1), Math.min(S - 1, state.key ?? 0));
}
