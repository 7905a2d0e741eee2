package test.example.tide;

/** A harbour and the height of its mean high water in metres. */
record Harbour(String name, double highWater) {
    static Harbour parse(String line) {
        int at = line.indexOf('=');
        if (at < 0) {
            throw new IllegalArgumentException("not a harbour: " + line);
        }
        return new Harbour(line.substring(0, at).trim(), Double.parseDouble(line.substring(at + 1).trim()));
    }
}
