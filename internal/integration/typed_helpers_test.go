package integration

type user struct {
	Name string `json:"name"`
	Age  int    `json:"age"`
}
