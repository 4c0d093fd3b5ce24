// What the model would say behind each sublayer.
function ladder() {
    const one = shown[state.word];
    $("ladder-section").hidden = !one.layers.length;
    const places = {
        attention: say("after_attention"),
        cross_attention: say("after_cross"),
        feedforward: say("after_feedforward"),
    };
    const wrote = (layer, place) =>
        place === "attention"
            ? layer.attention.wrote
            : place === "feedforward"
              ? layer.wrote
              : layer.cross.wrote;
    const lines = one.lens.length
        ? one.lens
        : one.layers.flatMap((layer, at) =>
              ["attention", ...(layer.cross ? ["cross_attention"] : []), "feedforward"].map(
                  (place) => ({ layer: at, place, top: [] }),
              ),
          );
    const rows = lines.map((line) =>
        make(
            "tr",
            { class: line.layer === state.layer ? "here" : null },
            make(
                "td",
                { class: "n" },
                line.place === "attention"
                    ? make(
                          "button",
                          {
                              class: "num",
                              type: "button",
                              on: { click: () => select({ layer: line.layer }) },
                          },
                          String(line.layer),
                      )
                    : "",
            ),
            make("td", {}, places[line.place]),
            make("td", { class: "n" }, format(wrote(one.layers[line.layer], line.place)?.length)),
            make(
                "td",
                {},
                ...line.top.flatMap(([label, share], at) => [
                    make("span", { class: "note" }, at ? " · " : ""),
                    word(label),
                    make("span", { class: "note" }, ` ${percent(share)}`),
                ]),
            ),
            make("td", { class: "n" }, format(line.rank)),
            make("td", { class: "n" }, percent(line.probability)),
            make("td", { class: "n" }, format(line.entropy)),
        ),
    );
    fill(
        "ladder",
        ...table(
            [
                [say("layer"), "n"],
                [say("place"), null],
                [say("wrote_length"), "n"],
                [say("lens_top"), null],
                [say("rank"), "n"],
                [say("probability"), "n"],
                [say("entropy"), "n"],
            ],
            rows,
        ),
    );
}
