package openai

import (
	"context"

	"serve/archive"
	"serve/service"
)

// ownerOf returns whose it is what a request stores.
func ownerOf(ctx context.Context) archive.Owner {
	call := service.CallOf(ctx)
	return archive.Owner{Tenant: call.Tenant, Client: call.Client}
}

// keyOf returns by what a request finds what is stored: the ID of anything that is not its tenant's is not found.
func keyOf(ctx context.Context, id string) archive.Key {
	return archive.Key{Tenant: service.CallOf(ctx).Tenant, ID: id}
}
